"""The gateway against the bare engine and against LiteLLM's proxy, in turn on one machine.

All three answer with the same engine, which streams 32 tokens and has no model. In every round each load runs on the
bare server, on the group and on the rival directly after each other, so that what disturbs the machine disturbs all;
the ratios are taken within a round, and the table shows their median and how far they lie apart. Starts a Ray node
of its own, and stops everything that it started.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import orjson

from benchmarks import bare, echo, group, machine, report, rival
from benchmarks.bars import POINTS, Point, Server
from benchmarks.client import measured
from benchmarks.folders import temporary_folder
from benchmarks.load import PATIENCE_SECONDS, Load, Sample
from benchmarks.options import count, positive
from benchmarks.processes import say
from benchmarks.rounds import publish

SUMMARY = "the gateway against the bare engine and against LiteLLM's proxy"

#: A point's load by server.
Loads = dict[Server, Load]
#: The key that each server wants; the servers that are measured.
Keys = dict[Server, str | None]
Results = dict[str, dict[Server, list[Sample]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=positive, default=2.5, help="measured time of each point (default: 2.5)")
    parser.add_argument("--rounds", type=count, default=5, help="how often each point is measured (default: 5)")
    parser.add_argument(
        "--points",
        type=_points,
        default=list(POINTS.values()),
        metavar="NAMES",
        help=f"only these, parted by commas: {', '.join(POINTS)}",
    )
    parser.add_argument("--no-rival", action="store_true", help="measure without LiteLLM")
    parser.add_argument(
        "--port", type=int, default=8100, help="the group's port; the next two are the others' (default: 8100)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the table to this file, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to this file")


def run(options: argparse.Namespace) -> None:
    """Measure and write the table.

    Raises:
        BenchmarkError, LaunchError, SettingsError: something could not be started or measured.
    """
    points: list[Point] = options.points
    with_rival = not options.no_rival and any(point.rival for point in points)
    facts = {
        **machine.facts(),
        "litellm": rival.VERSION if with_rival else "not measured",
        "measured": f"{options.seconds:g} s a point, rounds: {options.rounds}, {echo.TOKENS} tokens an answer",
    }
    group.require_no_ray(options.port)
    program = rival.install() if with_rival else None
    with temporary_folder() as folder, ExitStack() as servers:
        keys = _start(servers, folder, options.port, program)
        loads = {point.name: _loads(point, options.port, keys, options.seconds) for point in points}
        _prime(loads)
        results = _measure(points, loads, options.rounds)
    text = report.markdown(facts, results)
    publish(text, options.out)
    if options.json:
        options.json.write_bytes(orjson.dumps(report.data(facts, results), option=orjson.OPT_INDENT_2))


def _start(servers: ExitStack, folder: Path, port: int, program: Path | None) -> Keys:
    """Start what is measured; ``servers`` ends it. Gives the key that each server wants."""
    keys: Keys = {"bare": None}
    servers.enter_context(bare.running(port + 1, folder))
    if program is not None:
        keys["litellm"] = servers.enter_context(rival.running(program, port + 2, port + 1, folder))
    keys["ours"] = servers.enter_context(group.running(group.echo_config(port), folder))
    return keys


def _loads(point: Point, port: int, keys: Keys, seconds: float) -> Loads:
    urls: Mapping[Server, str] = {
        "bare": bare.base_url(port + 1, point.model),
        "ours": group.base_url(port),
        "litellm": rival.base_url(port + 2),
    }
    return {
        server: Load(urls[server], point.model, echo.TEXT, point.concurrency, seconds, key=keys[server])
        for server in point.servers(rival="litellm" in keys)
    }


def _prime(loads: Mapping[str, Loads]) -> None:
    """Ask every model once through every server, because a first request also loads and connects."""
    say("asking every server once")
    once = {(server, load.model): load for by_server in loads.values() for server, load in by_server.items()}
    for (server, model), load in once.items():
        sample_of(replace(load, concurrency=1, seconds=0.1, warm_up=0.0), f"first request, {model}, {server}")


def _measure(points: list[Point], loads: Mapping[str, Loads], rounds: int) -> Results:
    results: Results = {point.name: {server: [] for server in loads[point.name]} for point in points}
    total = rounds * sum(map(len, loads.values()))
    done = 0
    for number in range(rounds):
        for point in points:
            # The order alternates, so that none always runs on the warmer machine.
            for server in list(loads[point.name])[:: -1 if number % 2 else 1]:
                sample = sample_of(loads[point.name][server], f"{point.title}, {server}")
                results[point.name][server].append(sample)
                done += 1
                say(
                    f"[{done}/{total}] round {number + 1}, {point.title}, {server}:"
                    f" {sample.per_second:.1f} requests/s, first token {sample.first_token_p50:.1f} ms"
                )
    return results


def sample_of(load: Load, what: str) -> Sample:
    """Measure ``load`` in a process of its own.

    Raises:
        BenchmarkError: a request failed or an answer was not whole; the message names ``what`` and why.
    """
    allowed = load.warm_up + load.seconds + 2 * PATIENCE_SECONDS
    return Sample(**measured("benchmarks.load", load, what, allowed))


def _points(text: str) -> list[Point]:
    names = text.split(",")
    if unknown := [name for name in names if name not in POINTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(POINTS)}")
    return [POINTS[name] for name in names]
