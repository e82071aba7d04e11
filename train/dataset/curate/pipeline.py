"""From inputs to a curated set: the stages that a recipe asks for, then the set with its card."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from train.dataset.curate.base import Context, RowStep, Step, settings_bytes
from train.dataset.curate.duplicates import Duplicates, DuplicateStage, Leakage
from train.dataset.curate.passes import RowSet
from train.dataset.curate.reading import InputFile, survey
from train.dataset.curate.recipe import LoadedRecipe
from train.dataset.curate.report import Report, Reviewed, write_set
from train.dataset.curate.review import Decisions
from train.dataset.curate.row_stages import ReadStage, RowStage
from train.dataset.curate.select_stage import SelectStage
from train.dataset.curate.selection import Selection
from train.dataset.curate.sets import Share, share_out
from train.dataset.curate.shards import private_folder
from train.dataset.curate.stages import Finished, How, Stage, code_version, remove_others, run_stages
from train.dataset.curate.steps.branch import Branch
from train.dataset.exports import ReadOptions

Json = dict[str, Any]

#: Shows rows to a reviewer, who decides.
Reviewer = Callable[[Iterable[Any], int, Decisions], None]


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
    work = private_folder(job.out / ".work")
    with job.how.bar("look through", sum(Path(name).stat().st_size for name in job.inputs), "B") as progress:
        files, parts = survey(job.inputs, progress)
    stages = stages_of(job.recipe, ReadStage(parts, _options(job.recipe)))
    finished = run_stages(stages, work, _start(files, job.recipe), job.how, after=_checked(job))
    remove_others(work, finished.folders)
    rows = finished.rows
    decisions = Decisions(job.out / "decisions.jsonl")
    if job.reviewer is not None:
        job.reviewer((row for shard in rows.shards for row in rows.read(shard)), _count(finished), decisions)
    return _finish(job, files, finished, decisions)


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
