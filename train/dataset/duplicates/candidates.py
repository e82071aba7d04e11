"""Pairs of rows that may be near duplicates: those whose sketches are equal in a band (locality-sensitive hashing).

Where many rows share a band, as those of one template do, comparing all would take quadratic time. They are then
ordered by the permutations that follow the band, and each is compared with those beside it: the more similar two
rows are, the nearer they come to stand. So the depth at which rows are told apart grows with the crowd, as in an LSH
Forest (M. Bawa, T. Condie, P. Ganesan, 2005), and the number of pairs only with the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from train.dataset.duplicates.sketches import Codes
from train.dataset.duplicates.survey import Indices, Surveyed
from train.dataset.duplicates.text import distinct

#: How many neighbours a row of a crowded band is compared with, on each side.
NEIGHBOURS = 16
#: Permutations by which rows are ordered, the band's own included: two numbers of 64 bits.
DEPTH = 16

Packed = NDArray[np.uint64]


class Band(NamedTuple):
    """One band of all rows, and one range of its keys."""

    number: int
    range: int


@dataclass(frozen=True, slots=True)
class BandTask:
    """Looks for candidates in bands.

    Attributes:
        repeated: a file that says of each row whether it only repeats an earlier one.
        width: codes of a band.
        ranges: into how many the keys of each band are cut.
        folder: where the pairs go.
    """

    surveyed: Surveyed
    repeated: Path
    width: int
    ranges: int
    folder: Path

    def __call__(self, band: Band) -> Path:
        """Write the pairs of rows that share the band, packed and sorted; gives the file."""
        repeated = np.load(self.repeated, mmap_mode="r")
        keys, rows = [], []
        for number, start in enumerate(self.surveyed.starts[:-1].tolist()):
            found = band_keys(self.surveyed.columns(number), band.number, self.width)
            own = _prefix(found, self.width) % np.uint64(self.ranges) == band.range
            own &= ~repeated[start : start + len(own)]
            [mine] = np.nonzero(own)
            keys.append(found[mine])
            rows.append(mine + start)
        pairs = neighbours(np.concatenate(keys), np.concatenate(rows), self.width) if rows else np.zeros(0, np.uint64)
        out = self.folder / f"{band.number}-{band.range}.npy"
        np.save(out, pairs)
        return out


def band_keys(columns: Codes, band: int, width: int) -> NDArray[np.uint64]:
    """For each row the codes from a band on, as two numbers whose order is that of the codes: (rows, 2)."""
    which = (band * width + np.arange(DEPTH)) % len(columns)
    codes = np.ascontiguousarray(columns[which].T)
    return codes.view(">u8").astype(np.uint64)


def neighbours(keys: NDArray[np.uint64], rows: Indices, width: int) -> Packed:
    """Pairs of rows with an equal band that stand beside each other, packed, each once, in order."""
    order = np.lexsort((rows, keys[:, 1], keys[:, 0]))
    rows = rows[order].astype(np.uint64)
    keys = keys[order]
    # Bands wider than eight codes go into the second number.
    band, rest = _prefix(keys, min(width, 8)), _prefix(keys[:, 1:], width - 8) if width > 8 else None
    found = []
    for distance in range(1, NEIGHBOURS + 1):
        same = band[distance:] == band[:-distance]
        if rest is not None:
            same &= rest[distance:] == rest[:-distance]
        if not same.any():
            break
        one, other = rows[:-distance][same], rows[distance:][same]
        found.append(np.minimum(one, other) << np.uint64(32) | np.maximum(one, other))
    return distinct(np.concatenate(found)) if found else np.zeros(0, dtype=np.uint64)


def unpacked(pairs: Packed) -> NDArray[np.int64]:
    """Packed pairs as (pairs, 2), the smaller index first."""
    return np.stack([pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def _prefix(keys: NDArray[np.uint64], width: int) -> NDArray[np.uint64]:
    """The first codes of the first number."""
    return keys[:, 0] >> np.uint64(8 * (8 - min(width, 8)))
