"""The stage that chooses among the rows of the whole set by group."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.settings.errors import SettingsError
from train.dataset.curate.base import Context, settings_bytes
from train.dataset.curate.passes import RowSet
from train.dataset.curate.selection import MAX_GROUPS, Chosen, Selection, Survey, bounds_of
from train.dataset.curate.stages import How
from train.dataset.curate.tally import Tally
from train.dataset.curate.units import do_units

Json = dict[str, Any]


@dataclass(frozen=True)
class SelectStage:
    """A sample, a mixture or a cap."""

    step: Selection
    context: Context

    @property
    def title(self) -> str:
        """The step's name."""
        return self.step.title

    def key(self) -> bytes:
        """The step's settings."""
        return settings_bytes(self.step)

    def do(self, before: RowSet, folder: Path, how: How) -> Json:
        """Count the groups, then find the last row of each that stays.

        Raises:
            SettingsError: there are too many groups.
        """
        surveys: list[Json] = []
        available: Counter[str] = Counter()
        with how.bar(self.title, sum(shard.size for shard in before.shards), "B") as progress:
            work = Survey(before, self.step, self.context, folder)
            for found in do_units(work, before.shards, folder, how.workers, progress):
                surveys.append(found)
                available.update(found["groups"])
        if len(available) > MAX_GROUPS:
            raise SettingsError(f"{self.title}: {len(available)} groups; at most {MAX_GROUPS}")
        targets = self.step.targets(available)
        return {
            "available": dict(sorted(available.items())),
            "kept": dict(sorted(targets.items())),
            # JSON has no integers of 64 bits without a sign everywhere.
            "bounds": {name: f"{bound:016x}" for name, bound in bounds_of(folder, surveys, targets).items()},
        }

    def after(self, before: RowSet, folder: Path, done: Json) -> RowSet:
        """The same shards, of which fewer rows are part of the set."""
        bounds = {name: int(bound, 16) for name, bound in done["bounds"].items()}
        return RowSet(before.shards, (*before.filters, Chosen(self.step, self.context, bounds)))

    def tallies(self, done: Json) -> list[tuple[str, Tally]]:
        """What was dropped, by group."""
        dropped = {self.step.reason_of(name): count - done["kept"][name] for name, count in done["available"].items()}
        return [(self.title, Tally.of_drops(sum(done["available"].values()), dropped))]
