"""Finds the files in a zip archive without its directory, which is at the end and is lost when a download breaks off.

Each file has a header of its own before its data (PKWARE's APPNOTE 6.3.10, 4.3.7).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from train.dataset.exports.frames import Readable

_HEADER = b"PK\x03\x04"
_DIRECTORY = b"PK\x01\x02"
_CHUNK = 64 * 1024
_STORED, _DEFLATED = 0, 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A file; ``packed`` is its size in the archive, 0 where its header does not say."""

    name: str
    encrypted: bool
    packed: int
    data: Readable


def entries(file: IO[bytes]) -> Iterator[Entry]:
    """The files whose headers are there, in order. What cannot be unpacked here is left out.

    The data of one is to be read before the next is asked for; what is not read is skipped.
    """
    at = 0
    while (at := _next_header(file, at)) >= 0:
        file.seek(at)
        fixed = file.read(30)
        if len(fixed) < 30:
            return
        flags, method = struct.unpack_from("<HH", fixed, 6)
        packed, size, name_length, extra_length = struct.unpack_from("<IIHH", fixed, 18)
        raw_name, extra = file.read(name_length), file.read(extra_length)
        start = file.tell()
        if len(raw_name) < name_length:
            return
        name = raw_name.decode("utf-8" if flags & 0x800 else "cp437", "replace")
        packed = _zip64_packed(extra, size) if packed == 0xFFFFFFFF else packed
        data: _Stored | _Deflated
        if method == _DEFLATED:
            data = _Deflated(file, start)
        elif method == _STORED and not flags & 0x8:
            data = _Stored(file, start, packed)
        else:
            at = start
            continue
        if not name.endswith("/"):
            yield Entry(name, bool(flags & 0x1), packed, data)
        # Where the size is known, go by it: packed data may look like a header.
        at = max(start + packed if packed else data.at, at + 4)


class _Stored:
    """Data as it is."""

    def __init__(self, file: IO[bytes], at: int, size: int) -> None:
        self.at = at
        self._file = file
        self._left = size

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; raises ``EOFError`` where the archive ends too early."""
        self._file.seek(self.at)
        found = self._file.read(min(size, self._left))
        if self._left and not found:
            raise EOFError("the archive ends in the middle of a file")
        self.at += len(found)
        self._left -= len(found)
        return found


class _Deflated:
    """Packed data; it says itself where it ends. ``at`` is how far it was read."""

    def __init__(self, file: IO[bytes], at: int) -> None:
        self.at = at
        self._file = file
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; raises ``EOFError`` where the archive ends too early, ``zlib.error`` on damage."""
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail
            if not packed:
                self._file.seek(self.at)
                packed = self._file.read(_CHUNK)
                self.at += len(packed)
                if not packed:
                    raise EOFError("the archive ends in the middle of a file")
            found = self._inflate.decompress(packed, size)
            # What follows the packed data; nothing before its end.
            self.at -= len(self._inflate.unused_data)
            if found:
                return found
        return b""


def _next_header(file: IO[bytes], at: int) -> int:
    """Where the next header begins from ``at`` on; -1 where there is none before the directory or the end."""
    file.seek(at)
    before = b""
    while data := file.read(_CHUNK):
        window = before + data
        found, end = window.find(_HEADER), window.find(_DIRECTORY)
        if found >= 0 and (end < 0 or found < end):
            return at - len(before) + found
        if end >= 0:
            return -1
        at += len(data)
        before = window[-3:]
    return -1


def _zip64_packed(extra: bytes, size: int) -> int:
    """The packed size out of the extra field of large files; 0 where it is not there."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        skip = 8 if size == 0xFFFFFFFF else 0
        if kind == 1 and length >= skip + 8 and at + 4 + skip + 8 <= len(extra):
            (packed,) = struct.unpack_from("<Q", extra, at + 4 + skip)
            return int(packed)
        at += 4 + length
    return 0
