"""Which rows are dropped, why, and for which other row: in a file, so that memory does not grow with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.dataset.duplicates.survey import Indices, Surveyed

#: A row, why it is dropped (its place in ``Reason``), and the other row.
DECISIONS = np.dtype([("row", np.int64), ("reason", np.uint8), ("other", np.int64)])
_AT_ONCE = 1 << 12


class Reason(StrEnum):
    """Why a row is dropped."""

    EXACT = "exact"
    NEAR = "near"
    CONTAINED = "contained"


REASONS = tuple(Reason)


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a row is dropped.

    Attributes:
        id: the row's.
        other: the id of the row that is kept, or of the evaluation row that it is too much like.
    """

    id: str
    reason: Reason
    other: str


class Decisions:
    """The rows that are dropped, to be gone through beside the rows.

    Attributes:
        rows: how many rows there are, dropped ones included.
        counts: how many are dropped, by reason.
        groups: how many rows, or evaluation rows, others are dropped for.
    """

    def __init__(self, path: Path, surveyed: Surveyed, others: Surveyed) -> None:
        found = self._found = np.load(path, mmap_mode="r")
        self._surveyed = surveyed
        self._others = others
        self.rows = surveyed.rows
        self.counts: Counter[str] = Counter()
        for number, count in zip(*np.unique(found["reason"], return_counts=True), strict=True):
            self.counts[REASONS[number]] = int(count)
        self.groups = len(np.unique(found["other"]))

    @property
    def dropped(self) -> int:
        """How many rows are dropped."""
        return len(self._found)

    def reasons(self, shard: int) -> NDArray[np.uint8]:
        """For each row of a file, in order: 0 where it is kept, else the reason's place in ``REASONS``, from 1."""
        start, end = self._range(shard)
        found = self._between(start, end)
        reasons = np.zeros(end - start, dtype=np.uint8)
        reasons[found["row"] - start] = found["reason"] + 1
        return reasons

    def of_shard(self, shard: int) -> Iterator[Decision | None]:
        """For each row of a file, in order, why it is dropped; none where it is kept. Empty lines are no rows."""
        following, end = self._range(shard)
        for row, decision in self._decided(self._between(following, end)):
            yield from (None for _ in range(following, row))
            yield decision
            following = row + 1
        yield from (None for _ in range(following, end))

    def __iter__(self) -> Iterator[Decision]:
        return (decision for _, decision in self._decided(self._found))

    def _decided(self, found: NDArray[np.void]) -> Iterator[tuple[int, Decision]]:
        """Decisions with the indices of their rows; ids are read again, many at once."""
        for start in range(0, len(found), _AT_ONCE):
            some = found[start : start + _AT_ONCE]
            ids, others = self._surveyed.ids(some["row"]), self._others.ids(some["other"])
            for row, id, reason, other in zip(some["row"].tolist(), ids, some["reason"], others, strict=True):
                yield row, Decision(id, REASONS[reason], other)

    def _range(self, shard: int) -> tuple[int, int]:
        numbers = [piece.number for piece in self._surveyed.pieces if piece.shard == shard]
        if not numbers:
            return 0, 0
        return int(self._surveyed.starts[numbers[0]]), int(self._surveyed.starts[numbers[-1] + 1])

    def _between(self, start: int, end: int) -> NDArray[np.void]:
        first, last = np.searchsorted(self._found["row"], [start, end])
        found: NDArray[np.void] = self._found[first:last]
        return found


def write_decisions(path: Path, rows: Indices, reasons: NDArray[np.uint8], others: Indices) -> None:
    """Write decisions in the order of their rows."""
    table = np.empty(len(rows), dtype=DECISIONS)
    order = np.argsort(rows, kind="stable")
    table["row"], table["reason"], table["other"] = rows[order], reasons[order], others[order]
    np.save(path, table)
