"""The contents of uploaded files: a folder that every replica of the gateway sees. Every call blocks.

====================  ==================================================================================
``file-ID``           a content; it counts once the database has its row
``file-ID.part``      a content under way
``file-ID.lock``      something is under way with the file; locked while the process that does it lives
====================  ==================================================================================
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock

_LOCK = ".lock"


class Contents:
    """The folder.

    Args:
        folder: made at the first use, for its owner alone: what people upload is private.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def change(self, id: str) -> Change:
        """A change of the content of the file ``id``; nothing is done yet."""
        return Change(self._folder / id)

    def open(self, id: str) -> IO[bytes]:
        """The content of a file.

        Raises:
            OSError: there is none, or it cannot be read.
        """
        return (self._folder / id).open("rb")

    def changing(self) -> list[str]:
        """The ids of files that are being changed, or were when a process was killed.

        Raises:
            OSError: the folder cannot be read.
        """
        return sorted(lock.name.removesuffix(_LOCK) for lock in self._folder.glob(f"file-*{_LOCK}"))


class Change:
    """A change of one file's content: written and kept, or removed. Safe to use from several threads.

    Where the process is killed in between, the lock's file stays, and ``Contents.changing`` finds it.
    """

    def __init__(self, path: Path) -> None:
        self.part = path.with_name(f"{path.name}.part")
        self.size = 0
        self._path = path
        self._hash = hashlib.sha256()
        self._file: int | None = None
        self._lock = FileLock(f"{path}{_LOCK}", timeout=0, mode=0o600, thread_local=False)
        # A writer may still be at it when the one who waits for it is cancelled and ends the change.
        self._guard = threading.RLock()
        self._ended = False

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hexadecimal."""
        return self._hash.hexdigest()

    def begin(self) -> None:
        """Become the only one who changes this content.

        Raises:
            filelock.Timeout: another process is at it.
            OSError: the folder cannot be written.
        """
        with self._going_on():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()

    def write(self, data: bytes) -> None:
        """Add to the content, under its temporary name; begins the change if need be.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        with self._going_on():
            if self._file is None:
                self.begin()
                self._file = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._hash.update(data)
            self.size += len(data)
            left = memoryview(data)
            while left:
                left = left[os.write(self._file, left) :]

    def flush(self) -> None:
        """See that what was written is on the disk."""
        with self._going_on():
            if self._file is not None:
                os.fsync(self._file)

    def keep(self) -> None:
        """Give the content its name."""
        with self._going_on():
            self.part.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self) -> None:
        """Remove the content."""
        with self._going_on():
            self._path.unlink(missing_ok=True)

    def end(self) -> None:
        """End the change; what has no name yet is removed. Safe to call twice."""
        with self._guard:
            if self._lock.is_locked:
                self.part.unlink(missing_ok=True)
                Path(self._lock.lock_file).unlink(missing_ok=True)
            self.leave()

    def leave(self) -> None:
        """End the change as if this process had been killed: who sweeps the folder next decides."""
        with self._guard:
            self._ended = True
            if self._file is not None:
                os.close(self._file)
                self._file = None
            self._lock.release()

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        with self._guard:
            if self._ended:
                raise ValueError("the change has ended")
            yield
