"""The stages that go through the rows themselves: reading the inputs, and passes of row steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.dataset.curate.base import Context, RowStep, settings_bytes
from train.dataset.curate.noted import NotedLines
from train.dataset.curate.passes import RowPass, RowSet
from train.dataset.curate.reading import Part, ReadPart
from train.dataset.curate.repeats import find_repeats
from train.dataset.curate.stages import How, shards_in
from train.dataset.curate.tally import Tally
from train.dataset.curate.units import do_units
from train.dataset.disk import digest_of
from train.dataset.exports import ReadOptions

Json = dict[str, Any]

#: Problems that a report tells one by one; it counts all.
MAX_LISTED = 1000


@dataclass(frozen=True)
class ReadStage:
    """Inputs into shards; of rows with one id, one is left."""

    parts: Sequence[Part]
    options: ReadOptions
    title: str = "read"

    def key(self) -> bytes:
        """How exports are read; the inputs themselves are what the first stage depends on anyway."""
        return settings_bytes([self.title, self.options.every_branch, self.options.keep_hidden])

    def do(self, before: RowSet, folder: Path, how: How) -> Json:
        """Read the parts, then find rows of one id."""
        skipped: Counter[str] = Counter()
        passed_over: Counter[str] = Counter()
        sources: Counter[str] = Counter()
        problems: list[Json] = []
        shards: list[Json] = []
        with how.bar(self.title, sum(part.size for part in self.parts), "B") as progress:
            work = ReadPart(folder, self.options, None if how.workers else how.bar)
            for found in do_units(work, self.parts, folder, how.workers, progress):
                skipped.update(found["skipped"])
                passed_over.update(found["passed_over"])
                sources.update(found["sources"])
                problems += found["problems"][: MAX_LISTED - len(problems)]
                shards += found["shards"]
        return {
            "shards": shards,
            "repeated": find_repeats(shards_in(folder, shards), folder),
            "skipped": dict(sorted(skipped.items())),
            "passed_over": dict(sorted(passed_over.items())),
            "sources": dict(sorted(sources.items())),
            "problems": problems,
        }

    def after(self, before: RowSet, folder: Path, done: Json) -> RowSet:
        """All rows that were read, but for repeated ones."""
        return RowSet(shards_in(folder, done["shards"]), (NotedLines(str(folder)),))

    def tallies(self, done: Json) -> list[tuple[str, Tally]]:
        """Reading as a step."""
        rows = sum(shard["rows"] for shard in done["shards"]) + sum(done["skipped"].values())
        return [(self.title, Tally.of_drops(rows, {**done["skipped"], "repeated": done["repeated"]}))]


@dataclass(frozen=True)
class RowStage:
    """One pass over the rows for several steps; without steps, what earlier ones left out is taken out."""

    steps: tuple[RowStep, ...]
    context: Context

    @property
    def title(self) -> str:
        """The steps' names."""
        return ", ".join(step.title for step in self.steps) or "apply"

    def key(self) -> bytes:
        """The settings, the files that they name, and what is installed for them."""
        return settings_bytes(
            [[step, [digest_of(file) for file in step.files(self.context)], step.installed()] for step in self.steps]
        )

    def do(self, before: RowSet, folder: Path, how: How) -> Json:
        """Send every shard through the steps."""
        totals = [Tally() for _ in self.steps]
        shards: list[Json] = []
        work = RowPass(before, self.steps, self.context, folder)
        with how.bar(self.title, sum(shard.size for shard in before.shards), "B") as progress:
            for found in do_units(work, before.shards, folder, how.workers, progress):
                shards.append(found["shard"])
                for total, tally in zip(totals, found["tallies"], strict=True):
                    total.merge(Tally.from_body(tally))
        return {"shards": shards, "tallies": [total.body() for total in totals]}

    def after(self, before: RowSet, folder: Path, done: Json) -> RowSet:
        """What the steps left."""
        return RowSet(shards_in(folder, done["shards"]))

    def tallies(self, done: Json) -> list[tuple[str, Tally]]:
        """By step."""
        return [(step.title, Tally.from_body(body)) for step, body in zip(self.steps, done["tallies"], strict=True)]
