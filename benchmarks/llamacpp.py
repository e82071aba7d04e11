"""The llama.cpp handler, through the whole group, against llama.cpp's own C++ server and llama-cpp-python's server.

All load the same file, with the same number of threads, slots and tokens of context, and get the same requests:
streamed chats with prompts of their own, at temperature 0. In every round each load runs on all of them directly
after each other; the ratios are taken within a round. Starts a Ray node of its own, and stops everything that it
started.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmarks import group, llama_servers, machine
from benchmarks.client import measured
from benchmarks.folders import temporary_folder
from benchmarks.load import PATIENCE_SECONDS
from benchmarks.options import count, positive
from benchmarks.processes import say
from benchmarks.report import figure, table, verdict
from benchmarks.spread import Spread
from benchmarks.streams import StreamLoad, StreamSample
from serve import models
from serve.settings.model import ModelSettings

SUMMARY = "the llama.cpp handler against llama.cpp's C++ server and llama-cpp-python's server"

Server = Literal["ours", "cpp", "python"]
#: What is measured: streams at once, and tokens of the prompt that disturbs them.
Point = tuple[int, int]
#: Point -> server -> one sample a round.
Results = Mapping[Point, Mapping[Server, Sequence[StreamSample]]]

STREAMS = (1, 4, 8, 16)
#: Where llama-cpp-python's server, which answers one request after another, is measured too.
PYTHON_STREAMS = 8
#: A load of this many streams is disturbed by a prompt of ``LONG_PROMPT`` tokens, to see how long they pause.
DISTURBED_STREAMS = 4
LONG_PROMPT = 4000
SLOTS = 16
CONTEXT = 4608
MODEL = "smollm2-135m"
NAMES: dict[Server, str] = {"ours": "group", "cpp": "llama.cpp server", "python": "llama-cpp-python server"}

CPP_BAR, FIRST_TOKEN_BAR, PYTHON_BAR = 0.95, 1.5, 3.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=positive, default=12, help="measured time of each point (default: 12)")
    parser.add_argument("--rounds", type=count, default=3, help="how often each point is measured (default: 3)")
    parser.add_argument("--tokens", type=count, default=64, help="the most tokens of an answer (default: 64)")
    parser.add_argument(
        "--streams", type=count, nargs="+", default=list(STREAMS), help="streams at once (default: 1 4 8 16)"
    )
    parser.add_argument("--no-rival", action="store_true", help="measure the group alone")
    parser.add_argument(
        "--port", type=int, default=8100, help="the group's port; the next two are the others' (default: 8100)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the table to this file, too")


def run(options: argparse.Namespace) -> None:
    """Measure and write the table.

    Raises:
        BenchmarkError, LaunchError, SettingsError, ModelSourceError: something could not be started or measured.
    """
    group.require_no_ray(options.port)
    args = model_args()
    settings = ModelSettings.model_validate(args)
    assert settings.weights is not None
    file = models.fetch(settings.id, settings.weights, progress=True)
    measured_how = (
        f"{options.seconds:g} s a point, rounds: {options.rounds}, answers of up to {options.tokens} tokens"
    )
    facts = {
        **machine.facts(),
        "model": f"{file.name}, {SLOTS} slots of {CONTEXT} tokens",
        "measured": measured_how,
    }
    with temporary_folder() as folder, ExitStack() as servers:
        loads = _start(servers, folder, options, args, file)
        results = _measure(loads, options)
    text = markdown(facts, results)
    sys.stdout.write(text)
    if options.out:
        with options.out.open("a", encoding="utf-8") as output:
            output.write(text + "\n")


def model_args() -> dict[str, Any]:
    """The ``args`` of the model in ``configs/local.yaml``, with as many slots as the largest load has streams."""
    raw = yaml.safe_load((machine.ROOT / "configs" / "local.yaml").read_text(encoding="utf-8"))
    args: dict[str, Any] = next(one["args"] for one in raw["applications"] if one["name"] == MODEL)
    return {**args, "engine": {**args["engine"], "slots": SLOTS, "context": CONTEXT}}


def _start(
    servers: ExitStack, folder: Path, options: argparse.Namespace, args: dict[str, Any], file: Path
) -> dict[Server, StreamLoad]:
    """Start what is measured; ``servers`` ends it. Gives the load of each, for one stream."""
    load = StreamLoad(group.base_url(options.port), MODEL, 1, options.tokens, options.seconds)
    loads: dict[Server, StreamLoad] = {}
    if not options.no_rival:
        program, interpreter = llama_servers.install_cpp(), llama_servers.install_python()
        port = options.port + 1
        url = servers.enter_context(llama_servers.cpp(program, file, port, SLOTS, CONTEXT, folder))
        loads["cpp"] = replace(load, url=url)
        url = servers.enter_context(llama_servers.python(interpreter, file, port + 1, CONTEXT, folder))
        loads["python"] = replace(load, url=url)
    config = group.config(options.port, [group.application(args, 2 * SLOTS)])
    loads["ours"] = replace(load, key=servers.enter_context(group.running(config, folder)))
    return loads


def _measure(loads: Mapping[Server, StreamLoad], options: argparse.Namespace) -> Results:
    say("asking every server once")
    for server, load in loads.items():
        _sample(replace(load, seconds=0.5, warm_up=0.0), server)
    points: list[Point] = [(streams, 0) for streams in options.streams]
    points.append((DISTURBED_STREAMS, LONG_PROMPT))
    results: dict[Point, dict[Server, list[StreamSample]]] = {}
    for number in range(options.rounds):
        for point in points:
            streams, long_prompt = point
            at = results.setdefault(point, {})
            present = [one for one in loads if one != "python" or streams == PYTHON_STREAMS]
            # The order alternates, so that none always runs on the warmer machine.
            for server in present[:: -1 if number % 2 else 1]:
                sample = _sample(replace(loads[server], streams=streams, long_prompt=long_prompt), server)
                at.setdefault(server, []).append(sample)
                say(
                    f"round {number + 1}, {_title(point)}, {NAMES[server]}:"
                    f" {sample.tokens_per_second:.1f} tokens/s, first token {sample.first_token_p50:.0f} ms,"
                    f" longest gap {sample.gap_most:.0f} ms"
                )
    return results


def _sample(load: StreamLoad, server: Server) -> StreamSample:
    allowed = load.warm_up + load.seconds + 2 * PATIENCE_SECONDS
    return StreamSample(**measured("benchmarks.streams", load, f"{load.streams} streams, {NAMES[server]}", allowed))


def markdown(facts: Mapping[str, str], results: Results) -> str:
    """The report: where it ran, each bar with its number, and every point."""
    head = ["what", "median", "least..most", "bar", "verdict"]
    points = ["load", "server", "tokens/s", "least..most", "first token p50 ms", "longest gap p50 ms", "most"]
    return "\n".join(
        [
            "## llama.cpp",
            "",
            *[f"- {name}: {value}" for name, value in facts.items()],
            "",
            *table(head, _bar_rows(results)),
            "",
            *table(
                points,
                [_point_row(point, server, found) for point, at in results.items() for server, found in at.items()],
            ),
            "",
        ]
    )


def _bar_rows(results: Results) -> list[list[str]]:
    rows = []
    for point, at in results.items():
        if point[1]:
            continue
        streams = point[0]
        ours, cpp, python = at["ours"], at.get("cpp"), at.get("python")
        if cpp:
            speed = Spread.of([a.tokens_per_second / b.tokens_per_second for a, b in zip(ours, cpp, strict=True)])
            rows.append(verdict(f"tokens/s over llama.cpp's server, {streams} streams", speed, at_least=CPP_BAR))
            first = Spread.of([a.first_token_p50 / b.first_token_p50 for a, b in zip(ours, cpp, strict=True)])
            title = f"first token over llama.cpp's server, {streams} streams"
            rows.append(verdict(title, first, at_most=FIRST_TOKEN_BAR))
        if python:
            speed = Spread.of([a.tokens_per_second / b.tokens_per_second for a, b in zip(ours, python, strict=True)])
            title = f"tokens/s over llama-cpp-python's server, {streams} streams"
            rows.append(verdict(title, speed, at_least=PYTHON_BAR))
    return rows


def _title(point: Point) -> str:
    streams, long_prompt = point
    return f"{streams} streams{f', a prompt of {long_prompt} tokens comes in' if long_prompt else ''}"


def _point_row(point: Point, server: Server, samples: Sequence[StreamSample]) -> list[str]:
    speed = Spread.of([one.tokens_per_second for one in samples])
    return [
        _title(point),
        NAMES[server],
        figure(speed.median),
        f"{figure(speed.least)}..{figure(speed.most)}",
        figure(Spread.of([one.first_token_p50 for one in samples]).median),
        figure(Spread.of([one.gap_p50 for one in samples]).median),
        figure(max(one.gap_most for one in samples)),
    ]
