"""Tuning through Ray Train, beside a plain script of Unsloth and TRL with the same settings, and by two workers.

All of them tune SmolLM2-135M on the same conversations, in batches of the same size and with the same threads in all;
each run is a process of its own (Ray's with a Ray of its own). Tokens a second are those of the steps after the first
two, read from the runs' own notes; start, loading and checkpoints are not timed. In every round the three run after
each other, and ratios are taken within the round. Memory is that of the whole tree of processes at its most, seldom
looked at: looking holds the processes up.

At last a job tunes the same model in a whole group, timed from its creation to the first answer of its adapter.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks import group, machine, train_served, tree
from benchmarks.errors import BenchmarkError
from benchmarks.folders import temporary_folder
from benchmarks.options import count
from benchmarks.processes import say
from benchmarks.report import figure, table, verdict
from benchmarks.rounds import publish
from benchmarks.spread import Spread
from train.events import Event, read_events
from train.run_folder import RunFolder

SUMMARY = "tuning through Ray Train, against a plain script of Unsloth, and one worker against two"

#: Tokens/s through Ray Train over those of the plain script.
BAR = 0.95
#: Steps that are not timed: the first ones also make room in memory.
WARM_UP = 2
PLAIN, ONE, TWO = "plain script", "Ray Train, 1 worker", "Ray Train, 2 workers"

_LENGTHS = 12, 60
_WORDS = "the a of to in river stone quiet morning green walks opens under"


@dataclass(frozen=True)
class Sample:
    """One run.

    Attributes:
        tokens_per_second: over the timed steps.
        peak: bytes of memory of all its processes.
        loss: of the last step: the runs are to learn the same.
    """

    tokens_per_second: float
    peak: int
    loss: float


#: Who ran -> one sample a round.
Results = Mapping[str, Sequence[Sample]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--steps", type=count, default=16, help="steps of each run (default: 16)")
    parser.add_argument("--rounds", type=count, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--threads", type=count, default=2, help="threads of a run, over its workers (default: 2)")
    parser.add_argument("--port", type=int, default=8100, help="the group's port (default: 8100)")
    parser.add_argument("--no-group", action="store_true", help="leave out the job in a whole group")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the tables to this file, too")


def run(options: argparse.Namespace) -> None:
    """Measure and write the tables.

    Raises:
        BenchmarkError: a run failed.
        LaunchError, SettingsError: the group could not be started.
    """
    if not options.no_group:
        group.require_no_ray(options.port)
    measured = f"{options.steps} steps of 8 conversations, rounds: {options.rounds}, {options.threads} threads"
    facts = {**machine.facts(), "measured": measured}
    results: dict[str, list[Sample]] = {}
    with temporary_folder() as folder:
        data = _write_chats(folder / "chats.jsonl", 8 * options.steps)
        for number in range(options.rounds):
            # The order alternates, so that none always runs on the warmer machine.
            for name in (PLAIN, ONE, TWO)[:: -1 if number % 2 else 1]:
                sample = _measured(
                    name, folder, f"{name.replace(', ', '-').replace(' ', '-')}-{number}", data, options
                )
                results.setdefault(name, []).append(sample)
                say(f"round {number + 1}, {name}: {sample.tokens_per_second:.0f} tokens/s, loss {sample.loss:.4f}")
        text = markdown(facts, results)
        if not options.no_group:
            (folder / "group").mkdir()
            text += "\n" + train_served.markdown(train_served.measure(folder / "group", options.port, data))
    publish(text, options.out)


def _measured(name: str, folder: Path, run_name: str, data: Path, options: argparse.Namespace) -> Sample:
    workers = 2 if name == TWO else 1
    settings = [
        f"data.train=[{data}]",
        "data.replay=null",
        f"schedule.max_steps={options.steps}",
        f"checkpoint.every={options.steps}",
        "engine=unsloth",
        f"workers={workers}",
        f"resources.threads={max(1, options.threads // workers)}",
        "resources.niceness=0",
    ]
    module = "benchmarks.train_plain" if name == PLAIN else "train.finetune"
    recipe = str(train_served.RECIPE)
    command = [sys.executable, "-m", module, "--config", recipe, "--storage", str(folder), "--run", run_name]
    for setting in settings:
        command += ["--set", setting]
    environment = {**os.environ, "RAY_ADDRESS": "local", "RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"}
    ran = tree.run(command, folder / f"{run_name}.log", environment)
    return sample_of(read_events(RunFolder(str(folder), run_name)), ran.peak)


def sample_of(events: Sequence[Event], peak: int) -> Sample:
    """The numbers of a run, out of its events.

    Raises:
        BenchmarkError: it has too few steps.
    """
    points = [event for event in events if event.type == "metrics"][WARM_UP - 1 :]
    if len(points) < 2:
        raise BenchmarkError(f"a run must have more than {WARM_UP} steps to be timed")
    first, last = points[0], points[-1]
    speed = (last.data["tokens"] - first.data["tokens"]) / (last.at - first.at)
    return Sample(speed, peak, last.data["loss"])


def markdown(facts: Mapping[str, str], results: Results) -> str:
    """The report: where it ran, the bar with its number, and every run."""
    ratios = [
        ours.tokens_per_second / plain.tokens_per_second
        for ours, plain in zip(results[ONE], results[PLAIN], strict=True)
    ]
    scaling = [
        two.tokens_per_second / one.tokens_per_second for two, one in zip(results[TWO], results[ONE], strict=True)
    ]
    shared = Spread.of(scaling)
    bars = [
        verdict("tokens/s through Ray Train over the plain script", Spread.of(ratios), at_least=BAR),
        [
            "tokens/s of 2 workers over 1, same threads in all",
            figure(shared.median),
            f"{figure(shared.least)}..{figure(shared.most)}",
            "-",
            "-",
        ],
    ]
    return "\n".join(
        [
            "## Training",
            "",
            *[f"- {name}: {value}" for name, value in facts.items()],
            "",
            *table(["what", "median", "least..most", "bar", "verdict"], bars),
            "",
            *table(["run", "tokens/s", "least..most", "peak memory MiB", "last loss"], _rows(results)),
            "",
        ]
    )


def _rows(results: Results) -> list[list[str]]:
    rows = []
    for name, samples in results.items():
        speed = Spread.of([one.tokens_per_second for one in samples])
        peak = max(one.peak for one in samples) >> 20
        between = f"{figure(speed.least)}..{figure(speed.most)}"
        rows.append([name, figure(speed.median), between, str(peak), f"{samples[-1].loss:.4f}"])
    return rows


def _write_chats(path: Path, rows: int) -> Path:
    """Conversations of words by chance, the same each time."""
    chance = random.Random(1)  # noqa: S311 - data, not a secret

    def words() -> str:
        return " ".join(chance.choice(_WORDS.split()) for _ in range(chance.randint(*_LENGTHS)))

    def chat() -> bytes:
        said = [{"role": "user", "content": words()}, {"role": "assistant", "content": words()}]
        return orjson.dumps({"messages": said}, option=orjson.OPT_APPEND_NEWLINE)

    path.write_bytes(b"".join(chat() for _ in range(rows)))
    return path
