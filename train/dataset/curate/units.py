"""Units of work of a stage, done once: each leaves its result in the stage's folder, written last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import orjson

from train.dataset.curate.shards import write_json
from train.dataset.parallel import each

Json = dict[str, Any]


class Unit(Protocol):
    """A part of the input: a shard, a file, a range of a file."""

    @property
    def number(self) -> int:
        """Its place among the stage's units, from 0."""

    @property
    def size(self) -> int:
        """Its part of the work, in bytes."""


U = TypeVar("U", bound=Unit)


@dataclass(frozen=True)
class Once(Generic[U]):
    """Does a unit and notes its result; what crosses from process to process is only how much was done."""

    work: Callable[[U], Json]
    folder: Path

    def __call__(self, unit: U) -> int:
        """The unit's size."""
        write_json(_note(self.folder, unit), self.work(unit))
        return unit.size


def do_units(
    work: Callable[[U], Json], units: Sequence[U], folder: Path, workers: int, progress: Callable[[int], None]
) -> Iterator[Json]:
    """Do the units that are not done yet; then give the results of all, in the order of the units.

    Args:
        work: does one unit; can be pickled.
        units: all units of the stage.
        folder: the stage's folder.
        workers: as ``train.dataset.parallel.each`` has it.
        progress: told how many bytes of the work are done.
    """
    todo = [unit for unit in units if not _note(folder, unit).exists()]
    progress(sum(unit.size for unit in units) - sum(unit.size for unit in todo))
    for size in each(Once(work, folder), todo, workers):
        progress(size)
    for unit in units:
        yield orjson.loads(_note(folder, unit).read_bytes())


def _note(folder: Path, unit: Unit) -> Path:
    return folder / f"{unit.number:06d}.json"
