"""Pairs of duplicates as groups, and which row of a group is kept."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from train.dataset.duplicates.exact import Pairs
from train.dataset.duplicates.settings import DuplicateSettings
from train.dataset.duplicates.survey import Facts, Indices


class Groups:
    """Connected components by union-find. Holds the rows that have a duplicate, and no others.

    Args:
        pairs: all pairs of duplicates.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.rows: Indices = np.unique(pairs)
        places = np.searchsorted(self.rows, pairs)
        parents = list(range(len(self.rows)))
        for one, other in zip(places[:, 0].tolist(), places[:, 1].tolist(), strict=True):
            first, second = _root(parents, one), _root(parents, other)
            # The smaller becomes the root, so that a group's root is its first row, in whatever order pairs come.
            parents[max(first, second)] = min(first, second)
        self.roots: NDArray[np.int64] = np.array([_root(parents, one) for one in range(len(parents))], dtype=np.int64)

    def kept(self, facts: Facts, settings: DuplicateSettings) -> Indices:
        """For each of ``rows``, the row of its group that is kept.

        Args:
            facts: of ``rows``.
        """
        length, changed, liked = facts["length"], facts["changed"], facts["liked"]
        order: dict[str, tuple[NDArray[np.generic], ...]] = {
            "longest": (length, changed),
            "newest": (changed, length),
            "best": (liked, length, changed),
        }
        # The last key of lexsort counts first; -x puts the most before.
        worth = [-by.astype(np.float64) for by in order[settings.keep]]
        ordered = np.lexsort((self.rows, *reversed(worth), self.roots))
        _, first = np.unique(self.roots[ordered], return_index=True)
        best = np.empty(len(self.rows), dtype=np.int64)
        best[self.roots[ordered[first]]] = self.rows[ordered[first]]
        return best[self.roots]


def joined(parts: Iterable[Pairs]) -> Pairs:
    """All pairs of several."""
    return np.concatenate([np.zeros((0, 2), dtype=np.int64), *parts])


def _root(parents: list[int], one: int) -> int:
    while parents[one] != one:
        # Path halving: R. Tarjan, J. van Leeuwen, Worst-case analysis of set union algorithms (1984).
        parents[one] = parents[parents[one]]
        one = parents[one]
    return one
