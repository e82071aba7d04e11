"""Duplicates within the set, and rows that an evaluation set has, too, by ``train.dataset.duplicates``."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from serve.settings.errors import SettingsError
from train.dataset.curate.base import Context, WholeStep, settings_bytes
from train.dataset.curate.noted import NotedLines, note_lines, places_of
from train.dataset.curate.passes import RowSet
from train.dataset.curate.reading import ReadPart, survey
from train.dataset.curate.shards import private_folder
from train.dataset.curate.stages import How, shards_in
from train.dataset.curate.tally import Tally
from train.dataset.curate.units import do_units
from train.dataset.disk import digest_of
from train.dataset.duplicates import (
    Decisions,
    DuplicateSettings,
    LeakSettings,
    Progress,
    find_duplicates,
    find_leaks,
)
from train.dataset.exports import ReadOptions, Reason

Json = dict[str, Any]

_PLACES = 3


class LeakFound(Exception):
    """Rows of the evaluation set are in the input, and the recipe says ``on_found: stop``."""


class Duplicates(DuplicateSettings, WholeStep):
    """Keep one of several that say the same; the settings are those of docs/duplicates.md."""

    step: Literal["duplicates"] = "duplicates"


class Leakage(LeakSettings, WholeStep):
    """Leave out what an evaluation set has, too; the settings are those of docs/duplicates.md.

    Attributes:
        against: files of the evaluation set: rows, or whatever exports can be read.
        on_found: ``drop`` the rows, or ``stop``, so that nothing is written.
    """

    step: Literal["leakage"] = "leakage"
    against: Annotated[list[str], Field(min_length=1)]
    on_found: Literal["drop", "stop"] = "drop"

    def files(self, context: Context) -> list[Path]:
        """The evaluation set."""
        return [context.folder / name for name in self.against]


@dataclass(frozen=True)
class DuplicateStage:
    """Finds what to leave out by looking at every row beside the others."""

    step: Duplicates | Leakage
    context: Context

    @property
    def title(self) -> str:
        """The step's name."""
        return self.step.title

    def key(self) -> bytes:
        """The settings, and what the evaluation set says."""
        return settings_bytes([self.step, [digest_of(file) for file in self.step.files(self.context)]])

    def do(self, before: RowSet, folder: Path, how: How) -> Json:
        """Find them, and note their lines.

        Raises:
            LeakFound: the recipe stops at leaks, and there are some.
            SettingsError: the evaluation set holds no rows, or some that cannot be read.
        """
        assert not before.filters, "what is looked at are whole shards"
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        with _told(how, self.title) as progress:
            found = self._find(before, private_folder(work), how, progress)
        for shard in before.shards:
            note_lines(folder, shard.number, places_of(shard.number, np.flatnonzero(found.reasons(shard.number))))
        reasons = {str(reason): count for reason, count in sorted(found.counts.items())}
        rows = found.rows
        shutil.rmtree(work)
        if reasons and isinstance(self.step, Leakage) and self.step.on_found == "stop":
            told = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            raise LeakFound(f"{self.title}: {sum(reasons.values())} rows are in the evaluation set, too ({told})")
        return {"rows": rows, "reasons": reasons}

    def after(self, before: RowSet, folder: Path, done: Json) -> RowSet:
        """The same shards without the lines that were noted."""
        return RowSet(before.shards, (*before.filters, NotedLines(str(folder))))

    def tallies(self, done: Json) -> list[tuple[str, Tally]]:
        """What was dropped."""
        return [(self.title, Tally.of_drops(done["rows"], done["reasons"]))]

    def _find(self, before: RowSet, work: Path, how: How, progress: Progress) -> Decisions:
        shards = [Path(shard.path) for shard in before.shards]
        inner = work / "find"
        if isinstance(self.step, Leakage):
            evaluation = _evaluation(self.step.files(self.context), private_folder(work / "against"))
            return find_leaks(shards, evaluation, self.step, inner, workers=how.workers, progress=progress)
        return find_duplicates(shards, self.step, inner, workers=how.workers, progress=progress)


def _evaluation(files: Sequence[Path], folder: Path) -> list[Path]:
    """The rows of the evaluation set; every branch of a conversation could give something away.

    Raises:
        SettingsError: there are none, or some cannot be read, so that nothing could be told of them.
    """
    _, parts = survey([str(file) for file in files], lambda count: None)
    read = ReadPart(folder, ReadOptions(every_branch=True), tell_all=True)
    found = list(do_units(read, parts, folder, 0, lambda count: None))
    shards = [Path(shard.path) for shard in shards_in(folder, [body for one in found for body in one["shards"]])]
    skipped: Counter[str] = Counter()
    passed_over: Counter[str] = Counter()
    for one in found:
        skipped.update(one["skipped"])
        passed_over.update(one["passed_over"])
    unread = skipped + Counter({reason: n for reason, n in passed_over.items() if Reason(reason).fault})
    del unread[Reason.EMPTY]
    if unread:
        known = [problem for one in found for problem in one["problems"] if problem["reason"] in unread]
        places = "; ".join(problem["text"] for problem in known[:_PLACES])
        raise SettingsError(f"against: {unread.total()} could not be read ({_counted(unread)}): {places}")
    if not shards:
        told = _counted(skipped + passed_over)
        raise SettingsError(f"against: no conversation could be read from {', '.join(map(str, files))} ({told})")
    return shards


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))


@contextmanager
def _told(how: How, title: str) -> Iterator[Progress]:
    """A progress bar for each part of the search."""
    with ExitStack() as stack:
        current: list[tuple[str, Callable[[int], None], int]] = []

        def progress(step: str, done: int, total: int) -> None:
            if not current or current[0][0] != step:
                stack.close()
                current[:] = [(step, stack.enter_context(how.bar(f"{title}: {step}", total, "part")), 0)]
            _, move, before = current[0]
            move(done - before)
            current[0] = (step, move, done)

        yield progress
