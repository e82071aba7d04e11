"""The llama.cpp handler, through the whole group, against llama.cpp's own C++ server and llama-cpp-python's server.

All load the same file, with the same number of threads, slots and tokens of context, and get the same requests:
streamed chats with prompts of their own, at temperature 0. In every round each load runs on all of them directly
after each other; the ratios are taken within a round. Starts a Ray node of its own, and stops everything that it
started.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks import group, llama_servers, machine, rounds
from benchmarks.folders import temporary_folder
from benchmarks.rounds import GROUP, Point, Results
from benchmarks.streams import StreamLoad
from serve import models
from serve.settings.model import ModelSettings

SUMMARY = "the llama.cpp handler against llama.cpp's C++ server and llama-cpp-python's server"

STREAMS = (1, 4, 8, 16)
CPP, PYTHON = "llama.cpp's server", "llama-cpp-python's server"
#: Where llama-cpp-python's server, which answers one request after another, is measured too.
PYTHON_STREAMS = 8
#: A load that a long prompt disturbs, to see how long its streams pause. It takes minutes and has no bar, so it is
#: measured in so many rounds at most.
DISTURBED, DISTURBED_ROUNDS = Point(4, long_prompt=4000), 3
SLOTS = 16
CONTEXT = 4608
MODEL = "smollm2-135m"

CPP_BAR, FIRST_TOKEN_BAR, PYTHON_BAR = 0.95, 1.5, 3.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    rounds.add_arguments(parser, STREAMS)
    parser.add_argument("--no-rival", action="store_true", help="measure the group alone")


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
    model = f"{file.name}, {SLOTS} slots of {CONTEXT} tokens"
    facts = {**machine.facts(), "model": model, "measured": rounds.how(options)}
    with temporary_folder() as folder, ExitStack() as servers:
        loads = _start(servers, folder, options, args, file)
        results = {
            **rounds.measure(loads, [*map(Point, options.streams)], options.rounds, _takes_part),
            **rounds.measure(loads, [DISTURBED], min(options.rounds, DISTURBED_ROUNDS), _takes_part),
        }
    rounds.publish(rounds.markdown("llama.cpp", facts, bar_rows(results), results), options.out)


def model_args() -> dict[str, Any]:
    """The ``args`` of the model in ``configs/local.yaml``, with as many slots as the largest load has streams."""
    raw = yaml.safe_load((machine.ROOT / "configs" / "local.yaml").read_text(encoding="utf-8"))
    args: dict[str, Any] = next(one["args"] for one in raw["applications"] if one["name"] == MODEL)
    return {**args, "engine": {**args["engine"], "slots": SLOTS, "context": CONTEXT}}


def _start(
    servers: ExitStack, folder: Path, options: argparse.Namespace, args: dict[str, Any], file: Path
) -> dict[str, StreamLoad]:
    """Start what is measured; ``servers`` ends it. Gives the load of each, for one stream."""
    load = StreamLoad(group.base_url(options.port), MODEL, 1, options.tokens, options.seconds)
    loads: dict[str, StreamLoad] = {}
    if not options.no_rival:
        program, interpreter = llama_servers.install_cpp(), llama_servers.install_python()
        port = options.port + 1
        url = servers.enter_context(llama_servers.cpp(program, file, port, SLOTS, CONTEXT, folder))
        loads[CPP] = replace(load, url=url)
        url = servers.enter_context(llama_servers.python(interpreter, file, port + 1, CONTEXT, folder))
        loads[PYTHON] = replace(load, url=url)
    config = group.config(options.port, [group.application(args, 2 * SLOTS)])
    loads[GROUP] = replace(load, key=servers.enter_context(group.running(config, folder)))
    return loads


def _takes_part(server: str, point: Point) -> bool:
    return server != PYTHON or point.streams == PYTHON_STREAMS


def bar_rows(results: Results) -> list[list[str]]:
    """Each bar with its number."""
    rows = []
    for point, at in results.items():
        if CPP in at and point != DISTURBED:
            rows.append(rounds.speed_row(point, at, CPP, CPP_BAR))
            rows.append(rounds.first_token_row(point, at, CPP, FIRST_TOKEN_BAR))
        if PYTHON in at:
            rows.append(rounds.speed_row(point, at, PYTHON, PYTHON_BAR))
    return rows
