"""Files of rows, cut into pieces of about the same size that are worked on apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from train.dataset.duplicates.text import Json

#: Bytes of a piece: enough rows for numpy, few enough that their sketches fit into a processor's cache or nearly.
PIECE_BYTES = 8 << 20


class BrokenLine(Exception):
    """A line of a file of rows is no row; the message names file, line and byte."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The lines of a file that begin in a range of bytes.

    Attributes:
        number: which piece of all.
        shard: which file it is of.
    """

    number: int
    shard: int
    path: Path
    start: int
    end: int

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Each line that is not empty, with the byte at which it begins."""
        with self.path.open("rb") as file:
            if self.start:
                # A line that begins before belongs to the piece before.
                file.seek(self.start - 1)
                file.readline()
            place = file.tell()
            while place < self.end and (line := file.readline()):
                if not line.isspace():
                    yield place, line
                place += len(line)

    def rows(self) -> Iterator[tuple[int, Json]]:
        """Each row, with the byte at which it begins.

        Raises:
            BrokenLine: a line is no row.
        """
        for place, line in self.lines():
            yield place, row_of(line, self.path, place)

    def broken(self, place: int) -> BrokenLine:
        """The error about the line that begins at a byte."""
        return _broken(self.path, place)

    def rows_at(self, places: Iterable[int]) -> Iterator[Json]:
        """The rows that begin at bytes of the file."""
        with self.path.open("rb") as file:
            for place in places:
                file.seek(place)
                yield row_of(file.readline(), self.path, place)


def pieces_of(shards: Sequence[Path]) -> list[Piece]:
    """The pieces of files, in order. They depend on the files alone, not on who works on them."""
    pieces: list[Piece] = []
    for shard, path in enumerate(shards):
        size = path.stat().st_size
        pieces += [
            Piece(len(pieces) + count, shard, path, start, min(start + PIECE_BYTES, size))
            for count, start in enumerate(range(0, size, PIECE_BYTES))
        ]
    return pieces


def row_of(line: bytes, path: Path, place: int) -> Json:
    """A line as a row.

    Raises:
        BrokenLine: it is none.
    """
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list) or not isinstance(row.get("id"), str):
        raise _broken(path, place)
    return row


def _broken(path: Path, place: int) -> BrokenLine:
    return BrokenLine(f"{path}, line {_line_number(path, place)}, byte {place}: not a row with id and messages")


def _line_number(path: Path, place: int) -> int:
    lines = 1
    with path.open("rb") as file:
        while (left := place - file.tell()) > 0:
            lines += file.read(min(left, 1 << 20)).count(b"\n")
    return lines
