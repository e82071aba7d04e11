"""The lines of a file, with memory for one of them however long it is; and which of them came before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from train.dataset.scratch import Scratch

#: Of the longest line. Parsed, JSON of many small values takes some 20 times its size, and no example of this length
#: fits a model's context.
MAX_LINE_BYTES = 16 << 20
_SKIP_BYTES = 1 << 20


class Lines(Protocol):
    """A binary file."""

    def readline(self, size: int, /) -> bytes:
        """Up to the next line break, and at most ``size`` bytes; none at the end."""


def lines_of(
    file: Lines, *, most: int = MAX_LINE_BYTES, progress: Callable[[int], None] = lambda count: None
) -> Iterator[bytes]:
    """Every line with its end; of one that is longer than ``most`` bytes, the first ``most + 1`` only.

    Args:
        progress: told how many bytes were read.
    """
    while line := file.readline(most + 1):
        progress(len(line))
        rest = line
        while len(rest) and not rest.endswith(b"\n") and len(line) > most:
            rest = file.readline(_SKIP_BYTES)
            progress(len(rest))
        yield line


class SeenExamples(Scratch):
    """At which line each example came first: on disk, so that memory does not grow with them. A context manager."""

    def __init__(self) -> None:
        super().__init__("CREATE TABLE seen (digest INTEGER PRIMARY KEY, line INT)")

    def add(self, digest: str, line: int) -> int | None:
        """The line at which the same example was seen before; none where this is the first.

        Args:
            digest: of what is said in it, in hexadecimal. Its first 63 bits are compared.
        """
        key = int(digest[:16], 16) >> 1
        cursor = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, line))
        if cursor.rowcount:
            return None
        first: int = self._database.execute("SELECT line FROM seen WHERE digest = ?", (key,)).fetchone()[0]
        return first
