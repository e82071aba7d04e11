"""One pass over the rows: filters that earlier steps decided on, then several row steps, one row after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from train.dataset.curate.base import Context, RowStep
from train.dataset.curate.outcome import Changed, Dropped, Outcome, RowFunction
from train.dataset.curate.shards import RowWriter, Shard
from train.dataset.curate.tally import Tally
from train.dataset.disk import whole_file
from train.dataset.rows import Row


class Filter(Protocol):
    """Rows that a step over the whole set left out; can be pickled."""

    def open(self, shard: Shard) -> Callable[[int, Row], bool]:
        """What tells of a line and row of ``shard`` whether it stays."""


@dataclass(frozen=True, slots=True)
class RowSet:
    """The rows between two stages: shards, and what is left out of them."""

    shards: tuple[Shard, ...] = ()
    filters: tuple[Filter, ...] = ()

    def read(self, shard: Shard) -> Iterator[Row]:
        """The rows of one of the shards that are part of the set."""
        stays = [chosen.open(shard) for chosen in self.filters]
        for line, row in shard.read():
            if all(keep(line, row) for keep in stays):
                yield row


@dataclass(frozen=True)
class RowPass:
    """Sends the rows of a shard through row steps, into a shard of the same number.

    Attributes:
        before: the rows.
        steps: what is done with each.
        folder: where shards go.
    """

    before: RowSet
    steps: tuple[RowStep, ...]
    context: Context
    folder: Path

    @cached_property
    def _functions(self) -> list[RowFunction]:
        return [step.build(self.context) for step in self.steps]

    def __call__(self, shard: Shard) -> dict[str, Any]:
        """The new shard, and what each step did."""
        path = self.folder / f"{shard.number:06d}.jsonl"
        tallies = [Tally() for _ in self.steps]
        with ExitStack() as stack:
            out = RowWriter(stack.enter_context(whole_file(path)))
            for row in self.before.read(shard):
                left = self._through(row, tallies)
                if left is not None:
                    out.write(left)
        done = Shard(str(path), shard.number, out.rows, out.size)
        return {"shard": done.body(), "tallies": [tally.body() for tally in tallies]}

    def _through(self, row: Row, tallies: list[Tally]) -> Row | None:
        for function, tally in zip(self._functions, tallies, strict=True):
            outcome: Outcome = function(row)
            tally.add(outcome)
            if isinstance(outcome, Dropped):
                return None
            if isinstance(outcome, Changed):
                row = outcome.row
        return row
