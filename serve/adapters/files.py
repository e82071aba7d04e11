"""The files of an adapter, read without trust: plain files of bounded size, each taken into memory once, so that
what is checked is what is used."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from serve.adapters.errors import StorageFailed, WrongFiles

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MANIFEST = "manifest.json"
#: Beside the adapters of a model; no adapter can have this name.
PROMOTIONS = "_promotions.jsonl"

#: Name of each file -> its largest size. An adapter of rank 512 for 70 billion parameters fits.
LARGEST: dict[str, int] = {CONFIG: 1024**2, WEIGHTS: 8 * 1024**3, MANIFEST: 1024**2, PROMOTIONS: 64 * 1024**2}

#: What tells whether a file has changed: device, inode, size and time of change.
Signature = tuple[int, int, int, int]

#: Do not follow a symbolic link, and do not wait for the other end of a pipe; Windows has neither.
_CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def read_plain(folder: Path, name: str) -> bytes:
    """The content of ``folder/name``, one of ``LARGEST``.

    Raises:
        WrongFiles: it is not there, is no plain file (a symbolic link is none), or is too large.
        StorageFailed: it cannot be read.
    """
    path = folder / name
    try:
        descriptor = os.open(path, os.O_RDONLY | _CAREFULLY)
    except FileNotFoundError:
        raise WrongFiles(f"{name} is missing") from None
    except OSError as failure:
        if path.is_symlink():
            raise WrongFiles(f"{name} is a symbolic link; only plain files are taken") from failure
        raise StorageFailed(f"{name} cannot be read: {failure.strerror}") from failure
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise WrongFiles(f"{name} is no plain file")
        if state.st_size > LARGEST[name]:
            raise WrongFiles(f"{name} has {state.st_size} bytes; the most allowed is {LARGEST[name]}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(LARGEST[name])
    except OSError as failure:
        raise StorageFailed(f"{name} cannot be read: {failure.strerror}") from failure
    finally:
        os.close(descriptor)


def signature(path: Path) -> Signature | None:
    """What changes when a file does; none where there is no file.

    Raises:
        StorageFailed: the storage cannot say.
    """
    try:
        state = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as failure:
        raise StorageFailed(f"{path.name} cannot be read: {failure.strerror}") from failure
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)


def sha256(content: bytes) -> str:
    """The SHA-256 of ``content`` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def version_of(hashes: Mapping[str, str]) -> str:
    """The name of a content: 16 hexadecimal digits of the SHA-256 over each file's name and hash, names sorted."""
    lines = "".join(f"{name} {hashes[name]}\n" for name in sorted(hashes))
    return sha256(lines.encode())[:16]


def version_in(folder: Path) -> str:
    """The name of the content of a PEFT folder, as the registry gives it.

    Raises:
        WrongFiles: it is no such folder.
        StorageFailed: it cannot be read.
    """
    return version_of({name: sha256(read_plain(folder, name)) for name in (CONFIG, WEIGHTS)})


def write_durably(folder: Path, name: str, content: bytes) -> None:
    """Write ``folder/name`` such that a crash leaves the old file or the new one, never half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / name)


def remove_unused(folder: Path, days: float) -> None:
    """Remove what nobody has touched for so long: the files and the folders in ``folder``, a cache."""
    if not folder.is_dir():
        return
    oldest = time.time() - days * 86400
    for one in folder.iterdir():
        if one.stat().st_mtime < oldest:
            shutil.rmtree(one) if one.is_dir() else one.unlink(missing_ok=True)
