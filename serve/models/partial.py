"""The bytes of a file fetched so far, on disk so that a later try goes on where this one ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from serve.models.errors import WrongContent
from serve.models.manifest import write_atomically
from serve.models.place import Place
from serve.models.wanted import WantedFile
from serve.settings.base import Settings

_CHUNK = 1 << 20


class Origin(Settings):
    """Which source the bytes came from last, and the version of the file there (a strong ETag), if it told."""

    source: str
    etag: str | None


class PartialFile:
    """The part of one file, open for appending, hashed as it grows; what is there already is hashed first.

    The bytes of one source may be followed by those of another: every source must give the same file, and its
    hash tells in the end whether they did.

    Args:
        place: where it lies.
        wanted: what it will be; no more bytes are taken than that has.
        moved: told how many bytes there are, each time that changes.

    Attributes:
        wanted: as given.
        size: bytes so far.
        resumed: whether some of them are from an earlier try.
    """

    def __init__(self, place: Place, wanted: WantedFile, moved: Callable[[int], None]) -> None:
        self.wanted = wanted
        self.size = 0
        self.resumed = False
        self._part = place.part(wanted)
        self._origin = place.origin(wanted)
        self._moved = moved
        self._hash = wanted.hasher()

    def __enter__(self) -> Self:
        for path in (self._part, self._origin):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("ab")
        try:
            self._take_up()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _take_up(self) -> None:
        if os.fstat(self._file.fileno()).st_size > self.wanted.bytes:
            self._file.truncate(0)
        with self._part.open("rb") as earlier:
            while chunk := earlier.read(_CHUNK):
                self._hash.update(chunk)
                self.size += len(chunk)
        self.resumed = self.size > 0
        self._moved(self.size)

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``.

        Raises:
            WrongContent: the file would be larger than it can be.
        """
        if self.size + len(chunk) > self.wanted.bytes:
            raise WrongContent(f"it is larger than the {self.wanted.bytes} bytes expected")
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)
        self._moved(self.size)

    def restart(self) -> None:
        """Forget every byte."""
        self._file.flush()
        self._file.truncate(0)
        self._hash = self.wanted.hasher()
        self.size = 0
        self.resumed = False
        self._moved(0)

    def finish(self) -> None:
        """Bring the bytes safely to disk, and check them.

        Raises:
            WrongContent: they are not the file that is wanted.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self.wanted.require(self._hash.hexdigest())

    def comes_from(self, source: str, etag: str | None) -> None:
        """Note where the next bytes come from."""
        write_atomically(self._origin, Origin(source=source, etag=etag).model_dump_json())

    def origin(self) -> Origin | None:
        """Where the bytes came from last; none when that is not known."""
        try:
            return Origin.model_validate_json(self._origin.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None  # The hash of the whole decides, with or without it.
