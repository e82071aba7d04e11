"""The bytes of a file fetched so far, on disk so that a later try goes on where this one ended."""

from __future__ import annotations

import hashlib
import os
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from serve.models.errors import WrongContent
from serve.models.manifest import write_atomically
from serve.models.place import Place
from serve.models.progress import Reporter
from serve.settings.base import Settings

_CHUNK = 1 << 20


class Origin(Settings):
    """Which source the bytes came from last, and the version of the file there (a strong ETag), if it told."""

    source: str
    etag: str | None


class PartialFile:
    """``<file>.part``, open for appending, hashed as it grows; what is there already is hashed first.

    The bytes of one source may be followed by those of another: every source must give the same file, and its
    SHA-256 tells in the end whether they did.

    Args:
        place: where it lies.
        limit: bytes of the whole file; no more are taken.
        reporter: told how many bytes there are.

    Attributes:
        size: bytes so far.
        resumed: whether some of them are from an earlier try.
        limit: as given.
    """

    def __init__(self, place: Place, limit: int, reporter: Reporter) -> None:
        self.size = 0
        self.limit = limit
        self.resumed = False
        self._place = place
        self._reporter = reporter
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        self._file = self._place.part.open("ab")
        try:
            self._take_up()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reporter.end()
        self._file.close()

    def _take_up(self) -> None:
        if os.fstat(self._file.fileno()).st_size > self.limit:
            self._file.truncate(0)
        with self._place.part.open("rb") as earlier:
            while chunk := earlier.read(_CHUNK):
                self._hash.update(chunk)
                self.size += len(chunk)
        self.resumed = self.size > 0
        self._reporter.begin(self.size)

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``.

        Raises:
            WrongContent: the file would be larger than it can be.
        """
        if self.size + len(chunk) > self.limit:
            raise WrongContent(f"it is larger than the {self.limit} bytes expected")
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)
        self._reporter.at(self.size)

    def restart(self) -> None:
        """Forget every byte."""
        self._file.flush()
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size = 0
        self.resumed = False
        self._reporter.begin(0)

    def finish(self) -> str:
        """Bring the bytes safely to disk; gives their SHA-256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()

    def comes_from(self, source: str, etag: str | None) -> None:
        """Note where the next bytes come from."""
        write_atomically(self._place.origin, Origin(source=source, etag=etag).model_dump_json())

    def origin(self) -> Origin | None:
        """Where the bytes came from last; none when that is not known."""
        try:
            return Origin.model_validate_json(self._place.origin.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None  # The hash of the whole decides, with or without it.
