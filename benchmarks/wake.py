"""From a request to the first token of a model that is not in memory: SmolLM2-135M as ``configs/local.yaml`` has it.

Two ways of not being in memory are measured, on one Ray node of the benchmark's own. ``asleep``: Serve has scaled the
model to zero, so that a process starts for it. ``resting``: the process is there and its model was unloaded to make
room for Qwen2.5-Coder-0.5B, which has to go first. ``ready`` is the same request to a model in memory.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import requests
import yaml

from benchmarks import group, machine
from benchmarks.errors import BenchmarkError
from benchmarks.folders import temporary_folder
from benchmarks.options import count
from benchmarks.processes import say
from benchmarks.report import figure, table
from benchmarks.rounds import publish
from benchmarks.spread import Spread
from serve.launch import rest
from serve.launch.run_folder import RunFolder
from serve.models import fetch
from serve.residency.group import group_memory
from serve.settings.config import check
from serve.settings.environment import Environment

SUMMARY = "from a request to the first token of a model that is not in memory"

#: Most seconds from a request to a model that sleeps to its first token.
BAR = 5.0
SMALL, STRONG = "smollm2-135m", "qwen2.5-coder-0.5b"
_PATIENCE_SECONDS = 120.0

State = Literal["asleep", "resting", "ready"]
#: Changes a model's application.
Change = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Woken:
    """One request: the model's state before it, and seconds to the first token."""

    state: State
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=count, default=10, help="wakes of each kind (default: 10)")
    parser.add_argument("--port", type=int, default=8100, help="the group's port (default: 8100)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the table to this file, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to this file")


def run(options: argparse.Namespace) -> None:
    """Measure and write the table.

    Raises:
        BenchmarkError, LaunchError, SettingsError: something could not be started or measured.
    """
    facts = {**machine.facts(), "measured": f"rounds: {options.rounds}, one request at a time, streamed"}
    group.require_no_ray(options.port)
    with temporary_folder() as folder:
        found = [*_asleep(folder / "asleep", options), *_resting(folder / "resting", options)]
    text = markdown(facts, found)
    publish(text, options.out)
    if options.json:
        data = {"facts": facts, "bar": BAR, "wakes": [asdict(one) for one in found]}
        options.json.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2))


def markdown(facts: dict[str, str], found: list[Woken]) -> str:
    """The report. The bar is for a model that was scaled to zero, and for the slowest of its wakes."""
    rows = []
    for state in ("asleep", "resting", "ready"):
        seconds = [one.seconds for one in found if one.state == state]
        if not seconds:
            continue
        spread = Spread.of(seconds)
        verdict = ("met" if spread.most <= BAR else "missed") if state == "asleep" else "-"
        limit = f"at most {BAR:g} s" if state == "asleep" else "-"
        between = f"{figure(spread.least)}..{figure(spread.most)}"
        rows.append([state, str(len(seconds)), f"{figure(spread.median)} s", between, limit, verdict])
    head = ["before the request", "requests", "to first token", "least..most", "bar", "verdict"]
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join(["## Wake", "", *lines, "", *table(head, rows), ""])


def config(http_port: int, change: Change, *models: str) -> dict[str, Any]:
    """A Serve config with some models of ``configs/local.yaml``, each model's application changed."""
    raw = yaml.safe_load((machine.ROOT / "configs" / "local.yaml").read_text(encoding="utf-8"))
    chosen = [one for one in raw["applications"] if one["name"] in models]
    for one in chosen:
        change(one)
    return group.config(http_port, chosen)


def sleeps(application: dict[str, Any]) -> None:
    """Let Serve scale a model to zero soon after its last request."""
    application["deployments"][0]["autoscaling_config"] |= {
        "min_replicas": 0,
        "initial_replicas": 0,
        "max_replicas": 1,
        "downscale_delay_s": 4,
    }


def makes_room(application: dict[str, Any]) -> None:
    """Let a model be unloaded when another needs its memory."""
    application["args"]["residency"] = "on_demand"
    deployment = application["deployments"][0]
    del deployment["autoscaling_config"]
    deployment["num_replicas"] = 1


def _asleep(home: Path, options: argparse.Namespace) -> list[Woken]:
    found = []
    home.mkdir()
    with group.running(config(options.port, sleeps, SMALL), home) as key:
        for number in range(options.rounds):
            _wait(home, options.port, key, SMALL, "asleep")
            found.append(_ask("asleep", options.port, key, SMALL, f"{number + 1}/{options.rounds}"))
            found.append(_ask("ready", options.port, key, SMALL, f"{number + 1}/{options.rounds}"))
    return found


def _resting(home: Path, options: argparse.Namespace) -> list[Woken]:
    raw = config(options.port, makes_room, SMALL, STRONG)
    checked = check(raw)
    for one in checked.models:
        assert one.weights is not None
        # What its cache takes is known by its file.
        fetch(one.id, one.weights, progress=True)
    # Exactly what the group needs at least: one of the two models at a time.
    limit = group_memory(checked, 0).least
    before = os.environ.get("GROUPQWEN_MEMORY_LIMIT")
    os.environ["GROUPQWEN_MEMORY_LIMIT"] = str(limit)
    found = []
    home.mkdir()
    try:
        with group.running(raw, home) as key:
            for number in range(options.rounds):
                _ask("ready", options.port, key, STRONG, "to make it rest")
                _wait(home, options.port, key, SMALL, "resting")
                # A model that was just used is not unloaded.
                time.sleep(2.0)
                found.append(_ask("resting", options.port, key, SMALL, f"{number + 1}/{options.rounds}"))
                time.sleep(2.0)
    finally:
        os.environ.pop("GROUPQWEN_MEMORY_LIMIT")
        if before is not None:
            os.environ["GROUPQWEN_MEMORY_LIMIT"] = before
    return found


def _ask(state: State, port: int, key: str, model: str, what: str) -> Woken:
    """Ask for a streamed answer and time its first token.

    Raises:
        BenchmarkError: there was none.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "stream": True,
        "max_tokens": 8,
    }
    began = time.perf_counter()
    first = None
    with requests.post(
        f"{group.base_url(port)}/chat/completions", json=body, headers=_headers(key), stream=True, timeout=300
    ) as answer:
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            if first is None and b'"content":"' in line:
                first = time.perf_counter() - began
    if first is None or b"data: [DONE]" not in lines:
        raise BenchmarkError(f"no whole answer, status {answer.status_code}: {b' '.join(lines)[:300]!r}")
    say(f"{model}, {state}, {what}: first token after {first:.2f} s")
    return Woken(state, first)


def _wait(home: Path, port: int, key: str, model: str, state: State) -> None:
    """Wait until a model is in a state, and, for one that sleeps, until its process has ended."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        listed = requests.get(f"{group.base_url(port)}/models/{model}", headers=_headers(key), timeout=30).json()
        if listed["state"] == state and not (state == "asleep" and _replicas(home, model)):
            return
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{model} is still {listed['state']}, not {state}")
        time.sleep(0.2)


def _replicas(home: Path, model: str) -> int:
    """How many replicas a model has, those that end included."""
    folder = RunFolder(Environment.read({"GROUPQWEN_HOME": str(home)}))
    application = rest.applications(folder)[model]
    return sum(len(deployment["replicas"]) for deployment in application["deployments"].values())


def _headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
