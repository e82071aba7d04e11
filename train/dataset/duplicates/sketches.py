"""MinHash sketches of rows: one byte a permutation, whose share of equal bytes tells how similar two rows are.

A. Broder, On the resemblance and containment of documents (1997); one byte of each minimum: P. Li and C. König, b-Bit
Minwise Hashing (2010). The permutations are rensa's, in Rust.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from train.dataset.duplicates.settings import DuplicateSettings
from train.dataset.duplicates.text import Hashes, distinct

Codes = NDArray[np.uint8]

#: How likely two rows just at the threshold become candidates, at least.
_LEAST_RECALL = 0.97
_BY_CHANCE = 1 / 256
#: Standard deviations of the estimate around the threshold within which it is not believed.
_DOUBT = 2.5


def sketch(rows: Sequence[Hashes], settings: DuplicateSettings) -> Codes:
    """The sketches of rows given by their shingles: (rows, permutations)."""
    offsets = np.zeros(len(rows) + 1, dtype=np.uint64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate(rows), offsets, num_perm=settings.permutations, seed=settings.seed
    )
    return np.array(matrix.to_rows(), dtype=np.uint32).astype(np.uint8)


def similarity(one: Codes, other: Codes) -> NDArray[np.float64]:
    """The estimated Jaccard index of each pair of sketches."""
    equal: NDArray[np.float64] = (one == other).mean(axis=1)
    return (equal - _BY_CHANCE) / (1 - _BY_CHANCE)


def doubtful(settings: DuplicateSettings) -> tuple[float, float]:
    """Estimates below the first are no duplicates, from the second on they are, and between they say nothing."""
    deviation = math.sqrt(settings.threshold * (1 - settings.threshold) / settings.permutations)
    return settings.threshold - _DOUBT * deviation, min(settings.threshold + _DOUBT * deviation, 1.0)


def jaccard(one: Hashes, other: Hashes) -> float:
    """The Jaccard index of two sets of shingles."""
    first, second = distinct(one), distinct(other)
    common = len(np.intersect1d(first, second, assume_unique=True))
    return common / (len(first) + len(second) - common)


def band_width(settings: DuplicateSettings) -> int:
    """How many permutations make a band: as many as leave pairs at the threshold likely to share one band.

    Two rows of similarity s share one of b bands of r permutations with the probability 1 - (1 - s^r)^b (Leskovec,
    Rajaraman, Ullman, Mining of Massive Datasets, 3.4).
    """
    width = 1
    for rows in range(1, 17):
        bands = settings.permutations // rows
        if 1 - (1 - settings.threshold**rows) ** bands >= _LEAST_RECALL:
            width = rows
    return width
