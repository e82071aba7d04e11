"""The steps of a round. Each can be begun again where it was killed, and gives what it found as plain data."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serve.adapters.promotions import Pin, Promotions
from serve.adapters.registry import Registry
from serve.settings.environment import Environment
from train.adapters import publish
from train.dataset.disk import whole_file
from train.dataset.exports import Problem
from train.dataset.exports.files import Event, Reading
from train.dataset.exports.group import Group
from train.dataset.exports.registry import Readers
from train.dataset.exports.report import Report
from train.dataset.exports.run import write_rows
from train.dataset.exports.store import read_store
from train.dataset.formats.prepared import MANIFEST
from train.dataset.rows import Row, content_digest
from train.evaluate.served import Served
from train.loop.settings import EVERYBODY, LoopSettings
from train.loop.state import Round, State, StepName
from train.run_folder import DATA, NO_ROOM, RESULT, TRY_AGAIN, RunFolder

Json = dict[str, Any]
Tell = Callable[[str], None]

ROWS = "rows.jsonl"
SET = "set"
RUNS = "runs"

_POLL_SECONDS = 0.5
#: Seconds between two looks for room, at first and at most: each connects to Ray anew.
_SHORTEST_WAIT = 5.0
_LONGEST_WAIT = 60.0
_GROWTH = 1.5
#: What a training that is to be tried again ended with, and what that says.
_HINDERED = {NO_ROOM: "finds no room beside serving", TRY_AGAIN: "was hindered by what may pass"}


class LoopFailed(Exception):
    """A step failed; the message is one line. The same command begins the step again."""


class Hindered(Exception):
    """A step cannot be done now; the message says why. The same command goes on with it later.

    Attributes:
        code: what the loop's program ends with.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class NothingToLearn(Exception):
    """Too little is new, or nothing of it is fit to be learned; the message says so. The round is given up."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a step works on.

    Attributes:
        round: with the steps that are done.
        before: the last finished round.
        tell: takes a line for people.
    """

    settings: LoopSettings
    round: Round
    before: Round | None
    tell: Tell

    @property
    def folder(self) -> Path:
        """The round's own folder."""
        return Path(self.settings.folder) / self.round.name

    @property
    def run(self) -> RunFolder:
        """The folder of its training."""
        return RunFolder(self.settings.runs or f"{self.settings.folder}/{RUNS}", self.round.name)

    @property
    def served(self) -> Served:
        """The group."""
        return Served(self.settings.serving.url, self.settings.serving.key_variable)


def collect(work: Work) -> Json:
    """All stored conversations of the model with the feedback that is asked for, old ones too: an adapter is made
    anew from the base, and would not know what an earlier one had learned.

    Raises:
        NothingToLearn: too few are new.
    """
    collecting, path = work.settings.collect, work.folder / ROWS
    work.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    report = Report()
    reading = Reading(readers=Readers("groupqwen", Group(collecting.feedback)))
    tenant = None if collecting.tenant == EVERYBODY else collecting.tenant
    stored = read_store(Environment.read().database_url, reading, tenant=tenant)
    with whole_file(path) as file:
        write_rows(_of_model(stored, work.settings.model), file, report)
    rows = _digests(path)
    known = _digests(Path(work.settings.folder) / work.before.name / ROWS) if work.before else set()
    new = len(rows - known)
    if new < collecting.min_new:
        raise NothingToLearn(
            f"nothing to learn from: {new} new answers with feedback since the last run,"
            f" collect.min_new is {collecting.min_new}"
        )
    work.tell(f"collected {len(rows)} conversations, {new} of them new")
    return {"conversations": len(rows), "new": new}


def curate(work: Work) -> Json:
    """The conversations as a curated set.

    Raises:
        NothingToLearn: it left nothing to train on.
        LoopFailed: it failed.
    """
    from train.dataset.curate import command

    target = work.folder / SET
    code = command.main([str(work.folder / ROWS), "--recipe", work.settings.curate, "--out", str(target)])
    if code not in (0, 3, command.NOTHING_LEFT):
        raise LoopFailed(f"curation ended with exit code {code}")
    train, validation = _file(target, "train"), _file(target, "validation")
    if code == command.NOTHING_LEFT or train is None:
        raise NothingToLearn("nothing to learn from: curation left nothing to train on")
    return {"train": str(train), "validation": None if validation is None else str(validation)}


def tune(work: Work) -> Json:
    """A training run on the set; one that was killed resumes from its last checkpoint.

    Raises:
        Hindered: there is no room for it beside serving, or what may pass is in its way.
        LoopFailed: it failed, or was paused.
    """
    from train.finetune import command

    data = work.round.done["curate"]
    changes = [f"data.train=[{data['train']}]", f"data.validation=[{data['validation'] or ''}]"]
    arguments = ["--config", work.settings.recipe, "--run", work.round.name, "--storage", work.run.storage]
    for change in (*changes, *work.settings.changes):
        arguments += ["--set", change]
    if work.settings.spare_serving:
        arguments.append("--spare-serving")
    code = _with_room(lambda: command.main(arguments), work.settings.room_wait)
    if code in _HINDERED:
        raise Hindered(f"the training {_HINDERED[code]}; the same command goes on with it", code)
    result = work.run.read_json(RESULT)
    if code or result is None or result.get("state") != "succeeded":
        how = f"ended with exit code {code}" if code else "was paused"
        raise LoopFailed(
            f"the training {how}; its events are in {work.run.address}. The same command goes on with it, --abandon"
            " gives the round up"
        )
    return {"run": work.run.address}


def _with_room(training: Callable[[], int], seconds: float) -> int:
    """What the training ends with, begun again within so many seconds while it finds no room beside serving.

    A process that was killed leaves its resources a little later, and others end; nobody should have to start a loop
    again for that.
    """
    deadline, pause = time.monotonic() + seconds, _SHORTEST_WAIT
    while (code := training()) == NO_ROOM and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(pause * _GROWTH, _LONGEST_WAIT)
    return code


def publish_adapter(work: Work) -> Json:
    """The adapter under its own name, on every replica; nobody gets it who does not ask for it.

    Raises:
        LoopFailed: the group does not have it in time.
        NameTaken: another content has the name.
    """
    manifest = publish(work.run, evaluation={}, replace=False)
    model = f"{manifest.base.model}:{manifest.name}"
    deadline = time.monotonic() + work.settings.serving.wait
    while not work.served.has(model, manifest.version):
        if time.monotonic() > deadline:
            raise LoopFailed(f"{model} is not ready at {work.settings.serving.url}; GET /v1/models says why")
        time.sleep(_POLL_SECONDS)
    work.tell(f"{model} is served")
    return {"model": model, "version": manifest.version}


def evaluate(work: Work) -> Json:
    """The adapter against its base, and as served against as trained."""
    # Imports what trains.
    from train.evaluate.command import evaluate_run
    from train.evaluate.settings import load_settings

    settings = load_settings(work.settings.evaluation)
    report = evaluate_run(work.run, settings, work.served, work.round.name)
    for check in report.checks:
        work.tell(f"{'pass' if check.passed else 'FAIL'}  {check.text}")
    return {"passed": report.passed}


def decide(work: Work) -> Json:
    """The evaluation into the registry, and a part of the requests for an adapter that passed."""
    manifest = publish(work.run, replace=False)
    promotions, settings = Promotions(Registry()), work.settings.canary
    model, name = manifest.base.model, manifest.name
    why_not = ""
    if not work.round.done["evaluate"]["passed"]:
        why_not = "the gate did not pass it"
    elif not settings.weight:
        why_not = "no canary is wanted"
    elif Pin(name=name, version=manifest.version) in promotions.standing(model).refused:
        why_not = "it was rolled back"  # This step was killed after it had made it the canary.
    if why_not:
        work.tell(f"{model}:{name} stays under its own name: {why_not}")
        return {"canary": 0.0}
    promotions.canary(model, name, settings.weight, by="loop", rules=settings.rules, probation=settings.probation)
    work.tell(f"{model}:{name} answers {settings.weight:.0%} of the requests for the model")
    return {"canary": settings.weight}


#: What carries out each step.
ACTIONS: dict[StepName, Callable[[Work], Json]] = {
    "collect": collect,
    "curate": curate,
    "tune": tune,
    "publish": publish_adapter,
    "evaluate": evaluate,
    "decide": decide,
}


def next_round(settings: LoopSettings, state: State, tell: Tell) -> Work:
    """The round that is under way, or a new one.

    Where training has no data of its own yet, it is collected and curated anew: so what could not be learned from, or
    not by the recipe as it was, keeps nobody from learning what was said since.
    """
    if state.current is None:
        number = state.finished.number + 1 if state.finished else 1
        begun = Round(number=number, mark=secrets.token_hex(4), begun=datetime.now(UTC))
        return Work(settings, begun, state.finished, tell)
    work = Work(settings, state.current, state.finished, tell)
    if "tune" in work.round.done or work.run.read(f"{DATA}/{MANIFEST}") is not None:
        return work
    work.run.remove("")
    return replace(work, round=work.round.model_copy(update={"done": {}}))


def _of_model(events: Iterator[Event], model: str) -> Iterator[Event]:
    """What the model answered, whichever of its adapters did."""
    for event in events:
        if isinstance(event, Problem) or (event.model or "").partition(":")[0] == model:
            yield event


def _digests(path: Path) -> set[str]:
    """Stand for what is said in the rows of a file; none where there is no file."""
    if not path.is_file():
        return set()
    with path.open("rb") as file:
        return {content_digest(row.messages) for row in map(Row.from_json, file)}


def _file(folder: Path, split: str) -> Path | None:
    path = folder / "data" / f"{split}.jsonl"
    return path if path.is_file() and path.stat().st_size else None
