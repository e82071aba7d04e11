"""Candidates, judged: by their sketches where those are clear, and else by reading both rows again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.dataset.duplicates.candidates import Packed, unpacked
from train.dataset.duplicates.exact import Pairs
from train.dataset.duplicates.settings import DuplicateSettings
from train.dataset.duplicates.sketches import doubtful, jaccard, similarity
from train.dataset.duplicates.survey import Surveyed
from train.dataset.duplicates.text import distinct, shingles

#: Rows whose candidates are judged together: what bounds the memory of a task.
PART_ROWS = 1 << 14
#: Candidates whose sketches, and unclear ones whose shingles, are in memory at once.
_AT_ONCE = 1 << 15
_READ_AT_ONCE = 1 << 11


@dataclass(frozen=True, slots=True)
class VerifyTask:
    """Judges the candidates whose first row is one of ``PART_ROWS`` rows."""

    surveyed: Surveyed
    candidates: Sequence[Path]
    settings: DuplicateSettings

    def __call__(self, part: int) -> Pairs:
        """The candidates that are near duplicates."""
        pairs = unpacked(self._part(part))
        kept = [self._judged(pairs[start : start + _AT_ONCE]) for start in range(0, len(pairs), _AT_ONCE)]
        return np.concatenate(kept) if kept else np.zeros((0, 2), dtype=np.int64)

    def _part(self, part: int) -> Packed:
        """The part's pairs of all bands, each once."""
        limits = np.array([part * PART_ROWS, (part + 1) * PART_ROWS], dtype=np.uint64) << np.uint64(32)
        pairs: Packed = np.zeros(0, dtype=np.uint64)
        for path in self.candidates:
            of_band: Packed = np.load(path, mmap_mode="r")
            first, last = np.searchsorted(of_band, limits)
            # One band after the other, since most pairs share several.
            pairs = distinct(np.concatenate([pairs, of_band[first:last]]))
        return pairs

    def _judged(self, pairs: Pairs) -> Pairs:
        surveyed, settings = self.surveyed, self.settings
        estimates = similarity(surveyed.sketches(pairs[:, 0]), surveyed.sketches(pairs[:, 1]))
        least, clear = doubtful(settings)
        similar = estimates >= clear

        [unclear] = np.nonzero((estimates >= least) & ~similar)
        for start in range(0, len(unclear), _READ_AT_ONCE):
            places = unclear[start : start + _READ_AT_ONCE]
            read = {index: distinct(shingles(row, settings)) for index, row in surveyed.rows_at(pairs[places])}
            similar[places] = [
                jaccard(read[one], read[other]) >= settings.threshold for one, other in pairs[places].tolist()
            ]
        return pairs[similar]
