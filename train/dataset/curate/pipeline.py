"""From inputs to a curated set: the stages that a recipe asks for, then the set with its card."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.dataset.curate.base import Context, RowStep, Step, settings_bytes
from train.dataset.curate.duplicates import Duplicates, DuplicateStage, Leakage
from train.dataset.curate.output import DATA, DECISIONS, MADE, WORK, publish, restore, write_report
from train.dataset.curate.reading import InputFile, survey
from train.dataset.curate.recipe import LoadedRecipe
from train.dataset.curate.report import Report, faults
from train.dataset.curate.review import Decisions
from train.dataset.curate.row_stages import ReadStage, RowStage
from train.dataset.curate.select_stage import SelectStage
from train.dataset.curate.selection import Selection
from train.dataset.curate.sets import Share, share_out
from train.dataset.curate.shards import private_folder
from train.dataset.curate.stages import Finished, How, Stage, code_version, remove_others, run_stages
from train.dataset.curate.steps.branch import Branch
from train.dataset.exports import ReadOptions
from train.dataset.rows import Row

Json = dict[str, Any]

#: Shows rows, of which there are about so many, to a person who decides.
Reviewer = Callable[[Iterable[Row], int, Decisions], None]


class InputFault(Exception):
    """``strict``: something is wrong with the input; the message is one line."""


class NothingLeft(Exception):
    """No row is left; the message is one line, and says which steps took them."""


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        inputs: files, in order.
        out: the folder of the set.
        strict: stop at the first fault of the input.
        reviewer: asks a person, once the steps are done.
        tell: is told each fault of the input.
    """

    inputs: list[str]
    recipe: LoadedRecipe
    out: Path
    how: How
    strict: bool = False
    reviewer: Reviewer | None = None
    tell: Callable[[str], None] = lambda line: None


def curate(job: Job) -> Report:
    """Do the job in ``out/.work``, then put the set into ``out``.

    Raises:
        InputFault, NothingLeft, LeakFound, SettingsError: as they say; ``out`` is as it was.
        OSError: a file cannot be read or written.
    """
    work = private_folder(job.out / WORK)
    restore(job.out)
    with job.how.bar("look through", sum(Path(name).stat().st_size for name in job.inputs), "B") as progress:
        files, parts = survey(job.inputs, progress)
    stages = stages_of(job.recipe, ReadStage(parts, _options(job.recipe)))
    finished = run_stages(stages, work, _start(files, job.recipe), job.how, lambda done: _check(job, done))
    remove_others(work, finished.folders)
    decisions = Decisions(job.out / DECISIONS)
    if job.reviewer is not None:
        rows = finished.rows
        total = finished.tallies[-1][1].kept + finished.tallies[-1][1].changed
        job.reviewer((row for shard in rows.shards for row in rows.read(shard)), total, decisions)
    return _finish(job, files, finished, decisions)


def _check(job: Job, read: Json) -> None:
    """Tell the faults of the input; with ``strict`` the first ends the run."""
    if job.strict and faults(read):
        told = [problem["text"] for problem in read["problems"]]
        raise InputFault(told[0] if told else "a file cannot be read")
    for problem in read["problems"]:
        job.tell(problem["text"])


def _finish(job: Job, files: Sequence[InputFile], finished: Finished, decisions: Decisions) -> Report:
    """Share the rows out, and put the set with its card and report into ``out``."""
    made = job.out / WORK / MADE
    shutil.rmtree(made, ignore_errors=True)
    pieces = private_folder(made / "pieces")
    work = Share(finished.rows, job.recipe.recipe.split, decisions, pieces)
    with job.how.bar("write", sum(shard.size for shard in finished.rows.shards), "B") as progress:
        facts = share_out(work, private_folder(made / DATA), job.how.workers, progress)
    shutil.rmtree(pieces)
    steps = list(finished.tallies)
    if len(decisions):
        steps.append(("review", facts.reviewed))
    if facts.apart.dropped:
        steps.append(("split", facts.apart))
    if not facts.rows:
        took = [f"{name} {tally.dropped:,}" for name, tally in steps if tally.dropped]
        raise NothingLeft(
            f"no row is left; dropped by {', '.join(took)}" if took else "the input has no conversations"
        )
    report = Report(job.recipe.recipe, files, finished.read, steps, facts)
    write_report(made, report)
    publish(made, job.out)
    return report


def stages_of(loaded: LoadedRecipe, first: ReadStage) -> list[Stage]:
    """The stages of a recipe: row steps that follow each other are one pass."""
    context = loaded.context
    stages: list[Stage] = [first]
    waiting: list[RowStep] = []
    left_out = True  # Of rows with one id.

    def send() -> None:
        nonlocal left_out
        stages.append(RowStage(tuple(waiting), context))
        waiting.clear()
        left_out = False

    for step in loaded.recipe.steps:
        if isinstance(step, RowStep):
            waiting.append(step)
            continue
        # Duplicates are looked for in files, so what was left out before must be out of them.
        if waiting or (left_out and isinstance(step, Duplicates | Leakage)):
            send()
        stages.append(_whole(step, context))
        left_out = True
    if waiting:
        send()
    return stages


def _whole(step: Step, context: Context) -> Stage:
    if isinstance(step, Selection):
        return SelectStage(step, context)
    if isinstance(step, Duplicates | Leakage):
        return DuplicateStage(step, context)
    raise TypeError(f"{type(step).__name__} is a step of no known kind")


def _options(loaded: LoadedRecipe) -> ReadOptions:
    every = any(isinstance(step, Branch) and step.keep == "all" for step in loaded.recipe.steps)
    return ReadOptions(every_branch=every, keep_hidden=loaded.recipe.keep_hidden)


def _start(files: Sequence[InputFile], loaded: LoadedRecipe) -> bytes:
    """What every stage depends on: the code, the inputs, and what the steps know of their recipe."""
    known = [loaded.recipe.seed, loaded.recipe.topics, [[file.name, file.sha256] for file in files]]
    return hashlib.sha256(code_version().encode() + settings_bytes(known)).digest()
