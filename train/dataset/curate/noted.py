"""Lines of shards that a step left out, noted in files, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.dataset.curate.shards import Shard
from train.dataset.rows import Row

#: The number of a shard, and a line of it, from 0.
PLACE = np.dtype([("shard", "<u4"), ("line", "<u4")])


def places_of(shard: int, lines: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """Lines of one shard as places."""
    places = np.empty(len(lines), PLACE)
    places["shard"], places["line"] = shard, lines
    return places


def note_lines(folder: Path, part: int, places: npt.NDArray[np.void]) -> None:
    """Note lines to leave out, in a file for each ``part`` of the work."""
    if len(places):
        np.save(folder / f"left-out-{part:06d}.npy", np.sort(places, order=["shard", "line"]))


@dataclass(frozen=True)
class NotedLines:
    """Leaves out the lines that are noted in ``folder``."""

    folder: str

    def open(self, shard: Shard) -> Callable[[int, Row], bool]:
        """What tells of a line and row of ``shard`` whether it stays."""
        noted = sorted(Path(self.folder).glob("left-out-*.npy"))
        lines = {line for path in noted for line in _lines(path, shard.number)}
        return lambda line, row: line not in lines


def _lines(path: Path, shard: int) -> Iterator[int]:
    found = np.load(path, mmap_mode="r")
    start, end = np.searchsorted(found["shard"], [shard, shard + 1])
    yield from map(int, found["line"][start:end])
