"""The folder of a training run, on a disk, a shared folder, or whatever object store fsspec knows.

::

    <storage>/<run name>/config.yaml            the recipe, every setting stated
                         events.jsonl           what happened (``train.events``)
                         data/                  the data set in the model's tokens (``train.dataset.formats``)
                         checkpoints/<step>/    to go on from (``train.checkpoints``)
                         adapter/               the result, in PEFT's layout
                         tensorboard/, mlflow.json   for and of trackers (``train.worker.trackers``)
                         plots/*.png
                         control.json           what others want of the run
                         result.json            written last
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from serve.settings.model import AdapterName

CONFIG = "config.yaml"
CONTROL = "control.json"
RESULT = "result.json"
DATA = "data"
ADAPTER = "adapter"
PLOTS = "plots"

#: Exit code of a program that was hindered by what may pass: the same command again may do (``EX_TEMPFAIL``).
TRY_AGAIN = 75
#: Exit code of a run that has found no room beside serving and is to be started again when there is
#: (``EX_UNAVAILABLE``).
NO_ROOM = 69

Json = dict[str, Any]

_NAME: TypeAdapter[str] = TypeAdapter(AdapterName)


class StorageError(Exception):
    """A run's storage cannot be used; the message is one line and says why."""


class StorageUnreachable(StorageError):
    """A run's storage cannot be read or written now; trying again may help."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Paths in it are written with ``/``; an object can be sent to other processes.

    Attributes:
        storage: an absolute path, or an address such as ``s3://bucket/runs``.
        name: of the run.

    Raises:
        StorageError: the storage is no place that fsspec knows, or the name is not one of a run.
    """

    storage: str
    name: str

    def __post_init__(self) -> None:
        try:
            _NAME.validate_python(self.name)
        except ValidationError:
            raise StorageError(
                f"the run name {self.name[:80]!r} must begin with a letter or digit, have up to 64 letters, digits,"
                " dots, dashes and underscores, and nothing else"
            ) from None
        if "://" not in self.storage:
            object.__setattr__(self, "storage", str(Path(self.storage).expanduser().absolute()))

    @staticmethod
    def of(address: str) -> RunFolder:
        """The run whose folder is at ``address``."""
        storage, _, name = address.rstrip("/").rpartition("/")
        return RunFolder(storage or ".", name)

    @property
    def address(self) -> str:
        """Path or address of the folder."""
        return f"{self.storage.rstrip('/')}/{self.name}"

    @property
    def local(self) -> Path | None:
        """The folder where it is one of this machine's file systems."""
        return None if "://" in self.storage else Path(self.address)

    def holds(self, path: str) -> bool:
        """Whether a path is one in this folder, be something there or not."""
        return path.startswith(f"{self.address}/")

    def read(self, path: str) -> bytes | None:
        """The content of a file; none when there is no such file."""
        with self._storage() as (files, root):
            try:
                return bytes(files.cat_file(f"{root}/{path}"))
            except FileNotFoundError:
                return None

    def write(self, path: str, content: bytes) -> None:
        """Write a file such that readers see the old content or the new one, whole."""
        with self._storage() as (files, root):
            target = f"{root}/{path}"
            if self.local is None:
                files.pipe_file(target, content)
                return
            part = Path(f"{target}.{os.getpid()}.part")
            _make_private(part.parent)
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)

    def read_json(self, path: str) -> Json | None:
        """The JSON object in a file; none when there is no such file.

        Raises:
            StorageError: it is no JSON object.
        """
        content = self.read(path)
        if content is None:
            return None
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise StorageError(f"{self.address}/{path}: is not a JSON object")
        return value

    def write_json(self, path: str, value: Json) -> None:
        """Write a JSON object for people and programs, whole."""
        self.write(path, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))

    def names(self, path: str = "") -> list[str]:
        """What is directly in a folder of the run, in order; nothing where there is no such folder."""
        with self._storage() as (files, root):
            files.invalidate_cache()
            try:
                found = files.ls(f"{root}/{path}".rstrip("/"), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted(name for one in found if (name := one.rstrip("/").rpartition("/")[2]))

    def put(self, source: Path, path: str) -> None:
        """Copy a file, or all that is in a folder, to ``path`` of the run."""
        sources = [source] if source.is_file() else sorted(one for one in source.rglob("*") if one.is_file())
        with self._storage() as (files, root):
            for one in sources:
                inner = "" if one == source else f"/{one.relative_to(source).as_posix()}"
                target = f"{root}/{path}{inner}"
                if self.local is None:
                    files.put_file(str(one), target)
                    continue
                _make_private(Path(target).parent)
                shutil.copyfile(one, target)

    def get(self, path: str, target: Path) -> None:
        """Copy a file of the run to ``target``.

        Raises:
            StorageError: there is no such file.
        """
        with self._storage() as (files, root):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                files.get_file(f"{root}/{path}", str(target))
            except FileNotFoundError:
                raise StorageError(f"{self.address}/{path}: is missing") from None

    @contextmanager
    def on_disk(self, path: str) -> Iterator[Path]:
        """A folder of the run on this machine: where it lies, or a copy for the time being.

        Raises:
            StorageError: it cannot be read.
        """
        if self.local is not None:
            yield self.local / path
            return
        with tempfile.TemporaryDirectory(prefix="groupqwen-run-") as scratch:
            for name in self._files(path):
                self.get(f"{path}/{name}", Path(scratch) / name)
            yield Path(scratch)

    def _files(self, path: str) -> list[str]:
        """The files below a folder of the run, as seen from it."""
        with self._storage() as (files, root):
            files.invalidate_cache()
            top = f"{root}/{path}"
            return [one.rpartition(f"{top}/")[2] for one in files.find(top)]

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing happens where there is none."""
        with self._storage() as (files, root):
            try:
                files.rm(f"{root}/{path}", recursive=True)
            except FileNotFoundError:
                pass

    def make(self) -> None:
        """Make the folder; it is for its owner only, since data sets and answers lie in it."""
        if self.local is not None:
            with self._storage():
                _make_private(self.local)

    @contextmanager
    def _storage(self) -> Iterator[tuple[Any, str]]:
        """The file system and the path of this folder in it."""
        from fsspec.core import url_to_fs

        try:
            yield url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise StorageError(f"the storage {self.storage!r} cannot be used: {_line(error)}") from error
        except OSError as error:
            raise StorageUnreachable(f"{self.address}: {error.strerror or _line(error)}") from error


def _make_private(folder: Path) -> None:
    for one in reversed([folder, *folder.parents]):
        one.mkdir(mode=0o700, exist_ok=True)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
