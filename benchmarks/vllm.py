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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks import group, machine, rounds
from benchmarks.folders import temporary_folder
from benchmarks.processes import require_free, server
from benchmarks.rounds import GROUP, Point, Results
from benchmarks.streams import StreamLoad
from serve import models
from serve.handlers.vllm.arguments import engine_arguments
from serve.settings.engines import VllmEngine
from serve.settings.model import ModelSettings

SUMMARY = "the vLLM handler against `vllm serve`"

STREAMS = (1, 4, 16)
VLLM = "vllm serve"
SPEED_BAR, FIRST_TOKEN_BAR = 0.95, 1.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    rounds.add_arguments(parser, STREAMS)


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
    model = f"{checkpoint.name}, float32, no compilation"
    facts = {**machine.facts(), "model": model, "measured": rounds.how(options)}
    with temporary_folder() as folder, ExitStack() as servers:
        load = StreamLoad(group.base_url(options.port), settings.id, 1, options.tokens, options.seconds)
        url = servers.enter_context(rival(settings, checkpoint, options.port + 1, folder))
        config = group.config(options.port, [group.application(args, 2 * max(options.streams))])
        key = servers.enter_context(group.running(config, folder))
        loads = {GROUP: replace(load, key=key), VLLM: replace(load, url=url)}
        results = rounds.measure(loads, list(map(Point, options.streams)), options.rounds)
    rounds.publish(rounds.markdown("vLLM", facts, bar_rows(results), results), options.out)


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


def bar_rows(results: Results) -> list[list[str]]:
    """Each bar with its number."""
    rows = []
    for point, at in results.items():
        rows.append(rounds.speed_row(point, at, VLLM, SPEED_BAR))
        rows.append(rounds.first_token_row(point, at, VLLM, FIRST_TOKEN_BAR))
    return rows
