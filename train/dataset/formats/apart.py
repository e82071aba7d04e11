"""Whether the splits are apart: no conversation, and no row, in two of them.

Each input may have been split by itself, with another seed or by other near duplicates than the next.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from train.dataset.formats.split import SplitName, group_of
from train.dataset.rows import Row


@dataclass(slots=True)
class Places:
    """Which groups and rows are in which split, at 16 bytes a row.

    Attributes:
        keys: by split, 64 bits of hashes.
    """

    keys: dict[SplitName, array[int]] = field(default_factory=dict)

    def add(self, row: Row, split: SplitName, clusters: Mapping[str, str]) -> None:
        """Note a row of a split."""
        self.keys.setdefault(split, array("Q")).extend(keys_of(row, clusters))

    def merge(self, other: Places) -> None:
        """Note all of ``other``."""
        for split, keys in other.keys.items():
            self.keys.setdefault(split, array("Q")).extend(keys)

    def torn(self) -> set[int]:
        """The keys that are in two splits."""
        apart = [np.unique(np.frombuffer(keys, np.uint64)) for keys in self.keys.values()]
        return {
            int(key)
            for one, other in combinations(apart, 2)
            for key in np.intersect1d(one, other, assume_unique=True)
        }


def keys_of(row: Row, clusters: Mapping[str, str]) -> tuple[int, int]:
    """Of a row's group, and of its id."""
    return _hash(f"group\n{group_of(row, clusters)}"), _hash(f"row\n{row.id}")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
