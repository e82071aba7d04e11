"""Rows of the same content, by their digests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.dataset.duplicates.survey import Indices, Surveyed

#: Rows whose keys are compared at once, about: what bounds the memory of a task.
RANGE_ROWS = 1 << 18

#: (pairs, 2): a row, and another that is the same or similar.
Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ExactTask:
    """Compares the digests of one range of several."""

    surveyed: Surveyed
    ranges: int

    def __call__(self, which: int) -> Pairs:
        """Every row whose digest an earlier row has, with the first that has it."""
        keys, rows = [], []
        for number, start in enumerate(self.surveyed.starts[:-1].tolist()):
            digests = self.surveyed.digests(number)
            [mine] = np.nonzero(digests[:, 0] % np.uint64(self.ranges) == which)
            keys.append(digests[mine])
            rows.append(mine + start)
        if not rows:
            return np.zeros((0, 2), dtype=np.int64)
        return repeats(np.concatenate(keys), np.concatenate(rows))


def repeats(keys: NDArray[np.uint64], rows: Indices) -> Pairs:
    """The rows whose key, of two numbers, an earlier row has: each behind the first that has it."""
    order = np.lexsort((rows, keys[:, 1], keys[:, 0]))
    keys, rows = keys[order], rows[order]
    again = np.concatenate([[False], (keys[1:] == keys[:-1]).all(axis=1)]) if len(rows) else np.zeros(0, dtype=bool)
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(rows))))
    return np.stack([rows[first][again], rows[again]], axis=1)


def ranges_of(rows: int) -> int:
    """Into how many ranges the keys of so many rows are cut."""
    return max(1, -(-rows // RANGE_ROWS))
