"""The first pass: each row is read once, and what the later steps need of it is written to files, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.dataset.duplicates.pieces import Piece
from train.dataset.duplicates.settings import DuplicateSettings
from train.dataset.duplicates.sketches import Codes, sketch
from train.dataset.duplicates.text import Hashes, Json, digest, shingles, texts

#: Facts of a row: the byte at which it begins, its characters, when it changed last (seconds, 0 where nobody knows),
#: and what feedback says: 1 liked or corrected, -1 disliked.
FACTS = np.dtype([("place", np.int64), ("length", np.int64), ("changed", np.float64), ("liked", np.int8)])
Facts = NDArray[Any]
Indices = NDArray[np.int64]

#: Shingles that are sketched at once.
_BATCH = 1 << 17


@dataclass(frozen=True, slots=True)
class SurveyTask:
    """Surveys pieces."""

    settings: DuplicateSettings
    folder: Path

    def __call__(self, piece: Piece) -> int:
        """Write a piece's digests, facts, and sketches in both orders; gives the number of its rows.

        Raises:
            BrokenLine: a line is no row.
        """
        digests: list[bytes] = []
        facts: list[tuple[int, int, float, int]] = []
        codes: list[Codes] = []
        waiting: list[Hashes] = []
        held = 0
        for place, row in piece.rows():
            try:
                digests.append(digest(row))
                facts.append(_facts(row, place))
                if self.settings.near:
                    waiting.append(shingles(row, self.settings))
                    held += len(waiting[-1])
            except (KeyError, TypeError, AttributeError, ValueError):
                raise piece.broken(place) from None
            if held >= _BATCH:
                codes.append(sketch(waiting, self.settings))
                waiting, held = [], 0
        if waiting:
            codes.append(sketch(waiting, self.settings))
        name = str(piece.number)
        np.save(self.folder / f"{name}.digests.npy", np.array(digests, dtype="V16").view(np.uint64).reshape(-1, 2))
        np.save(self.folder / f"{name}.facts.npy", np.array(facts, dtype=FACTS))
        if self.settings.near:
            together = np.concatenate(codes) if codes else np.zeros((0, self.settings.permutations), dtype=np.uint8)
            np.save(self.folder / f"{name}.sketches.npy", together)
            np.save(self.folder / f"{name}.columns.npy", np.ascontiguousarray(together.T))
        return len(facts)


def _facts(row: Json, place: int) -> tuple[int, int, float, int]:
    provenance = row.get("provenance") or {}
    feedback = provenance.get("feedback") or {}
    changed = provenance.get("updated_at") or row.get("created_at")
    liked = {"up": 1, "down": -1}.get(feedback.get("rating") or "", 0)
    return (
        place,
        sum(map(len, texts(row))),
        datetime.fromisoformat(changed).timestamp() if changed else 0.0,
        1 if feedback.get("corrected") else liked,
    )


class Surveyed:
    """What the first pass wrote. Rows have an index over all pieces, in the order of the input.

    Args:
        pieces: all pieces.
        counts: how many rows each has.
        folder: where the files are.
    """

    def __init__(self, pieces: list[Piece], counts: list[int], folder: Path) -> None:
        self.pieces = pieces
        self.folder = folder
        self.starts: Indices = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.starts[-1])

    def digests(self, number: int) -> NDArray[np.uint64]:
        """A piece's digests: (rows, 2)."""
        found: NDArray[np.uint64] = np.load(self.folder / f"{number}.digests.npy")
        return found

    def columns(self, number: int) -> Codes:
        """A piece's sketches by permutation, on disk: (permutations, rows)."""
        found: Codes = np.load(self.folder / f"{number}.columns.npy", mmap_mode="r")
        return found

    def sketches(self, indices: Indices) -> Codes:
        """The sketches of rows: (rows, permutations)."""
        found: Codes = self._gather("sketches", indices)
        return found

    def facts(self, indices: Indices) -> Facts:
        """The facts of rows."""
        found: Facts = self._gather("facts", indices)
        return found

    def rows_at(self, indices: Indices) -> Iterator[tuple[int, Json]]:
        """Rows, read again, each with its index; in the order of the input."""
        sorted_once = np.unique(indices)
        for number, which in self._by_piece(sorted_once):
            wanted = sorted_once[which]
            places = self._of_piece("facts", number, wanted)["place"]
            yield from zip(wanted.tolist(), self.pieces[number].rows_at(places.tolist()), strict=True)

    def ids(self, indices: Indices) -> list[str]:
        """The ids of rows."""
        found = {index: row["id"] for index, row in self.rows_at(indices)}
        return [found[index] for index in indices.tolist()]

    def _by_piece(self, indices: Indices) -> Iterator[tuple[int, Indices]]:
        """The pieces in which rows are, each with which of ``indices`` those are."""
        pieces = self._piece_of(indices)
        order = np.argsort(pieces, kind="stable")
        numbers, first = np.unique(pieces[order], return_index=True)
        return zip(numbers.tolist(), np.split(order, first)[1:], strict=True)

    def _piece_of(self, indices: Indices) -> Indices:
        return np.searchsorted(self.starts, indices, side="right").astype(np.int64) - 1

    def _of_piece(self, what: str, number: int, indices: Indices) -> Any:  # noqa: ANN401
        # Mapped for as long as this takes: what stays mapped counts as memory in use.
        return np.load(self.folder / f"{number}.{what}.npy", mmap_mode="r")[indices - self.starts[number]]

    def _gather(self, what: str, indices: Indices) -> Any:  # noqa: ANN401
        found: Any = None
        for number, which in self._by_piece(indices):
            rows = self._of_piece(what, number, indices[which])
            if found is None:
                found = np.empty((len(indices), *rows.shape[1:]), dtype=rows.dtype)
            found[which] = rows
        return found
