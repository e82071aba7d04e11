"""Where on this node one model's file lies, and what belongs to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from serve.models.errors import ModelSourceError
from serve.settings.environment import Environment


@dataclass(frozen=True, slots=True)
class Place:
    """The files of one model: ``root/<model id>/<file>`` and its companions beside it.

    Attributes:
        folder: the model's folder.
        name: the file's name in it.
    """

    folder: Path
    name: str

    @staticmethod
    def of(model_id: str, name: str, root: Path | None) -> Place:
        """The place of a model's file under ``root``, by default the environment's models folder.

        Raises:
            ModelSourceError: one of the names would lead out of the folder.
        """
        return Place(model_folder(model_id, root), plain_name(name))

    @property
    def file(self) -> Path:
        """The whole file."""
        return self.folder / self.name

    @property
    def manifest(self) -> Path:
        """What the file is known to be; written last."""
        return self.folder / f"{self.name}.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that works on the file. It stays: removing it could let two processes in."""
        return self.folder / f"{self.name}.lock"

    @property
    def part(self) -> Path:
        """The bytes fetched so far."""
        return self.folder / f"{self.name}.part"

    @property
    def origin(self) -> Path:
        """Where the bytes of ``part`` come from."""
        return self.folder / f"{self.name}.origin"

    @property
    def wheels(self) -> Path:
        """Folder of the packages downloaded so far."""
        return self.folder / f"{self.name}.wheels"

    def discard_download(self) -> None:
        """Remove everything that only a download under way needs."""
        self.part.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)
        if self.wheels.is_dir():
            shutil.rmtree(self.wheels)


def root_or_default(root: Path | None) -> Path:
    """``root``, or the environment's models folder."""
    return Environment.read().models_dir if root is None else root


def model_folder(model_id: str, root: Path | None) -> Path:
    """The folder of one model."""
    return root_or_default(root).absolute() / plain_name(model_id)


def plain_name(name: str) -> str:
    """``name``, if it names something inside a folder and nothing outside of it; else ``ModelSourceError``."""
    if name in {"", ".", ".."} or "/" in name or os.sep in name or "\0" in name:
        raise ModelSourceError(f"{name!r} cannot be the name of a model or of its file")
    return name


def user_path(path: str) -> Path:
    """A ``path`` source as an absolute path: ``~`` expanded, relative to the current directory."""
    # Not Path.expanduser, which raises for an unknown user; a path that is not there is reported as such.
    return Path(os.path.expanduser(path)).absolute()


@contextmanager
def locked(place: Place, when_held: Callable[[], None]) -> Iterator[None]:
    """Be the only one, in this process and others, that works on the file.

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
