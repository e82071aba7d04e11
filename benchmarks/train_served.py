"""From a fine-tuning job's creation to the first answer of its adapter: the whole way, through a group of its own.

The model and the recipe are those of ``configs/local.yaml``: the base answers the recipe's prompts for replay first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from benchmarks import group
from benchmarks.errors import BenchmarkError
from benchmarks.machine import ROOT
from benchmarks.processes import say
from benchmarks.report import figure, table
from benchmarks.wake import SMALL, config

RECIPE = ROOT / "configs" / "train" / "smollm2-135m.yaml"
_PATIENCE_SECONDS = 1800.0

Json = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """Seconds from the creation of a job.

    Attributes:
        running: its program has been started.
        first_step: its first step has ended: the data is prepared, and the model loaded.
        trained: its last step has ended.
        succeeded: its adapter is evaluated and published.
        answered: the adapter has answered.
        steps: of the training.
    """

    running: float
    first_step: float
    trained: float
    succeeded: float
    answered: float
    steps: int


def measure(home: Path, port: int, data: Path, epochs: int = 1) -> Served:
    """Tune on ``data`` by a job, and ask what came of it.

    Raises:
        BenchmarkError: the job failed, or took half an hour.
        LaunchError, SettingsError: the group could not be started.
    """
    with group.running(tuned_config(port), home, scopes=("inference", "files", "fine_tuning")) as key:
        api = _Api(group.base_url(port), key)
        file = api.ask("POST", "/files", file=data)
        body = {"model": SMALL, "training_file": file["id"], "hyperparameters": {"n_epochs": epochs}}
        began = time.time()
        job = api.ask("POST", "/fine_tuning/jobs", json=body)["id"]
        say(f"job {job} is created")
        running = _until(lambda: api.status(job) in ("running", "succeeded")) - began
        succeeded = _until(lambda: api.status(job) == "succeeded") - began
        name = api.job(job)["fine_tuned_model"]
        answered = _until(lambda: api.answers(name)) - began
        steps = api.steps(job)
        return Served(running, steps[0] - began, steps[-1] - began, succeeded, answered, len(steps))


def tuned_config(port: int) -> Json:
    """The model as ``configs/local.yaml`` has it, and what it is tuned by."""
    raw = config(port, lambda _: None, SMALL)
    gateway = raw["applications"][0]["deployments"][0]
    gateway["user_config"]["fine_tuning"] = {"recipes": {SMALL: {"supervised": str(RECIPE)}}}
    return raw


def markdown(served: Served) -> str:
    """The report."""
    rows = [
        ["the job's program runs", figure(served.running)],
        ["the first step has ended", figure(served.first_step)],
        [f"the last of {served.steps} steps has ended", figure(served.trained)],
        ["evaluated and published", figure(served.succeeded)],
        ["the adapter has answered", figure(served.answered)],
    ]
    return "\n".join([*table(["since the job was created", "s"], rows), ""])


class _Api:
    """The group's API, as far as a job needs it."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.headers["authorization"] = f"Bearer {key}"

    def ask(self, method: str, path: str, json: Json | None = None, file: Path | None = None) -> Json:
        """The answer. Raises ``BenchmarkError`` for a refusal."""
        content = None if file is None else {"file": (file.name, file.read_bytes())}
        form = None if file is None else {"purpose": "fine-tune"}
        answer = self._session.request(method, self._url + path, timeout=120, json=json, data=form, files=content)
        if not answer.ok:
            raise BenchmarkError(f"{method} {path} was answered by {answer.status_code}: {answer.text[:300]}")
        found: Json = answer.json()
        return found

    def job(self, job: str) -> Json:
        """The job."""
        return self.ask("GET", f"/fine_tuning/jobs/{job}")

    def status(self, job: str) -> str:
        """Its state. Raises ``BenchmarkError`` where it failed."""
        found = self.job(job)
        if found["status"] in ("failed", "cancelled"):
            raise BenchmarkError(f"the job has {found['status']}: {found['error']}")
        return str(found["status"])

    def steps(self, job: str) -> list[int]:
        """When each of its steps ended, in seconds since 1970."""
        events = self.ask("GET", f"/fine_tuning/jobs/{job}/events?limit=100")["data"]
        found = sorted(event["created_at"] for event in events if event["type"] == "metrics")
        if not found:
            raise BenchmarkError("the job has no steps")
        return found

    def answers(self, model: str) -> bool:
        """Whether the model answers; one that is not known yet does not."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        answer = self._session.post(self._url + "/chat/completions", json=body, timeout=120)
        if answer.status_code not in (200, 404):
            raise BenchmarkError(f"{model} answered by {answer.status_code}: {answer.text[:300]}")
        return answer.status_code == 200


def _until(look: Callable[[], bool]) -> float:
    """When something was seen to be so, in seconds since 1970."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not look():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"a job takes longer than {_PATIENCE_SECONDS:.0f} s")
        time.sleep(0.25)
    return time.time()
