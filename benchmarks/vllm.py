"""The vLLM handler, through the whole group, against ``vllm serve`` on the same checkpoint.

Both run vLLM with the same arguments and get the same requests: streamed chats with prompts of their own, at
temperature 0. The two engines take turns on the machine's processors: in every round each load runs on both directly
after each other, and the ratios are taken within a round. Starts a Ray node of its own, and stops everything that it
started.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmarks import group, machine
from benchmarks.client import measured
from benchmarks.folders import temporary_folder
from benchmarks.load import PATIENCE_SECONDS
from benchmarks.options import count, positive
from benchmarks.processes import require_free, say, server
from benchmarks.report import figure, table, verdict
from benchmarks.spread import Spread
from benchmarks.streams import StreamLoad, StreamSample
from serve import models
from serve.handlers.vllm.arguments import engine_arguments
from serve.settings.engines import VllmEngine
from serve.settings.model import ModelSettings

SUMMARY = "the vLLM handler against `vllm serve`"

Server = Literal["ours", "vllm"]
#: Streams at once -> server -> one sample a round.
Results = Mapping[int, Mapping[Server, Sequence[StreamSample]]]

STREAMS = (1, 4, 16)
NAMES: dict[Server, str] = {"ours": "group", "vllm": "vllm serve"}
SPEED_BAR, FIRST_TOKEN_BAR = 0.95, 1.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=positive, default=12, help="measured time of each point (default: 12)")
    parser.add_argument("--rounds", type=count, default=3, help="how often each point is measured (default: 3)")
    parser.add_argument("--tokens", type=count, default=64, help="the most tokens of an answer (default: 64)")
    parser.add_argument(
        "--streams", type=count, nargs="+", default=list(STREAMS), help="streams at once (default: 1 4 16)"
    )
    parser.add_argument("--port", type=int, default=8100, help="the group's port; the next is vLLM's (default: 8100)")
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
    checkpoint = models.fetch(settings.id, settings.weights, progress=True)
    how = f"{options.seconds:g} s a point, rounds: {options.rounds}, answers of up to {options.tokens} tokens"
    facts = {**machine.facts(), "model": f"{checkpoint.name}, float32, no compilation", "measured": how}
    with temporary_folder() as folder, ExitStack() as servers:
        load = StreamLoad(group.base_url(options.port), settings.id, 1, options.tokens, options.seconds)
        url = servers.enter_context(rival(settings, checkpoint, options.port + 1, folder))
        config = group.config(options.port, [group.application(args, 2 * max(options.streams))])
        key = servers.enter_context(group.running(config, folder))
        results = _measure({"ours": replace(load, key=key), "vllm": replace(load, url=url)}, options)
    text = markdown(facts, results)
    sys.stdout.write(text)
    if options.out:
        with options.out.open("a", encoding="utf-8") as output:
            output.write(text + "\n")


def model_args() -> dict[str, Any]:
    """The ``args`` of the model in ``configs/vllm-cpu.yaml``, without LoRA, which costs time at every step."""
    raw = yaml.safe_load((machine.ROOT / "configs" / "vllm-cpu.yaml").read_text(encoding="utf-8"))
    args: dict[str, Any] = next(one["args"] for one in raw["applications"] if "handler" in one.get("args", {}))
    return {**args, "engine": {**args["engine"], "adapters": 0}}


@contextmanager
def rival(settings: ModelSettings, checkpoint: Path, port: int, folder: Path) -> Iterator[str]:
    """``vllm serve`` with the handler's own arguments, until the block ends. Gives its base address."""
    require_free(port, "vllm serve")
    assert isinstance(settings.engine, VllmEngine)
    arguments = engine_arguments(settings.id, checkpoint, settings.engine, settings.max_queued)
    # What `vllm serve` runs; that command itself wants a distribution called "vllm".
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    command += flags(arguments)
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    base = f"http://127.0.0.1:{port}"
    log = folder / "vllm.log"
    with server("vllm serve", command, f"{base}/health", log, environment):
        yield f"{base}/v1"


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments of vLLM's engine as its command line has them."""
    found: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        match value:
            case bool():
                found.append(f"--{flag}" if value else f"--no-{flag}")
            case list():
                found += [f"--{flag}", *value]
            case {}:
                continue
            case _:
                found += [f"--{flag}", str(value)]
    return found


def _measure(loads: Mapping[Server, StreamLoad], options: argparse.Namespace) -> Results:
    say("asking every server once")
    for name, load in loads.items():
        _sample(replace(load, seconds=0.5, warm_up=0.0), name)
    results: dict[int, dict[Server, list[StreamSample]]] = {}
    for number in range(options.rounds):
        for streams in options.streams:
            at = results.setdefault(streams, {})
            # The order alternates, so that none always runs on the warmer machine.
            for name in list(loads)[:: -1 if number % 2 else 1]:
                sample = _sample(replace(loads[name], streams=streams), name)
                at.setdefault(name, []).append(sample)
                say(
                    f"round {number + 1}, {streams} streams, {NAMES[name]}: {sample.tokens_per_second:.1f} tokens/s,"
                    f" first token {sample.first_token_p50:.0f} ms"
                )
    return results


def _sample(load: StreamLoad, name: Server) -> StreamSample:
    allowed = load.warm_up + load.seconds + 2 * PATIENCE_SECONDS
    return StreamSample(**measured("benchmarks.streams", load, f"{load.streams} streams, {NAMES[name]}", allowed))


def markdown(facts: Mapping[str, str], results: Results) -> str:
    """The report: where it ran, each bar with its number, and every point."""
    bars, points = [], []
    for streams, at in results.items():
        pairs = list(zip(at["ours"], at["vllm"], strict=True))
        speed = Spread.of([ours.tokens_per_second / theirs.tokens_per_second for ours, theirs in pairs])
        first = Spread.of([ours.first_token_p50 / theirs.first_token_p50 for ours, theirs in pairs])
        bars.append(verdict(f"tokens/s over vllm serve, {streams} streams", speed, at_least=SPEED_BAR))
        bars.append(verdict(f"first token over vllm serve, {streams} streams", first, at_most=FIRST_TOKEN_BAR))
        points += [_point_row(streams, name, samples) for name, samples in at.items()]
    return "\n".join(
        [
            "## vLLM",
            "",
            *[f"- {name}: {value}" for name, value in facts.items()],
            "",
            *table(["what", "median", "least..most", "bar", "verdict"], bars),
            "",
            *table(["streams", "server", "tokens/s", "least..most", "first token p50 ms"], points),
            "",
        ]
    )


def _point_row(streams: int, name: Server, samples: Sequence[StreamSample]) -> list[str]:
    speed = Spread.of([one.tokens_per_second for one in samples])
    first = Spread.of([one.first_token_p50 for one in samples])
    return [
        str(streams),
        NAMES[name],
        figure(speed.median),
        f"{figure(speed.least)}..{figure(speed.most)}",
        figure(first.median),
    ]
