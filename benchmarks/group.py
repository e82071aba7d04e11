"""The group under test: the gateway of ``configs/local.yaml`` and the echo models, started by ``serve.launch``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from benchmarks import echo
from benchmarks.errors import BenchmarkError
from benchmarks.machine import ROOT
from benchmarks.processes import require_free, uninterrupted
from serve.launch import group
from serve.launch.ray_node import port_open
from serve.launch.run_folder import DASHBOARD_PORT, RAY_PORT, RunFolder
from serve.settings.config import GATEWAY, MODEL
from serve.settings.environment import Environment
from serve.store import Store

#: Limits that are checked at every request and never reached.
_NO_LIMIT = 2**31 - 1
_STREAMS = 256


def require_no_ray(http_port: int) -> None:
    """Raise ``BenchmarkError`` when a Ray node runs here: the group under test needs its ports and its processors."""
    for port in (RAY_PORT, DASHBOARD_PORT):
        if port_open(port):
            raise BenchmarkError(
                f"Ray already runs on this machine (port {port} is taken), and the benchmark starts one of its own;"
                " stop it first: scripts/stop.sh, or `ray stop` for another Ray"
            )
    require_free(http_port, "the group")


def config(http_port: int) -> dict[str, Any]:
    """A Serve config: the gateway of ``configs/local.yaml`` with its access log on, and one application a model."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text(encoding="utf-8"))
    gateway = next(one for one in raw["applications"] if one["import_path"] == GATEWAY)
    gateway["args"]["access_log"] = True
    # Its rules name models that are not here; every request of a benchmark names its own.
    del gateway["deployments"][0]["user_config"]["routing"]
    raw["http_options"]["port"] = http_port
    raw["applications"] = [gateway, *(_application(model) for model in echo.MODELS)]
    return raw


def _application(model: str) -> dict[str, Any]:
    return {
        "name": model,
        "route_prefix": f"/m/{model}",
        "import_path": MODEL,
        "args": echo.args(model),
        "deployments": [
            {
                "name": "Model",
                "num_replicas": 1,
                "max_ongoing_requests": _STREAMS,
                "max_queued_requests": _STREAMS,
                "backpressure_config": {"status_code": 429, "retry_after_s": 1},
                "ray_actor_options": {"num_cpus": 0.1},
            }
        ],
    }


@contextmanager
def running(http_port: int, home: Path, raw: dict[str, Any] | None = None) -> Iterator[str]:
    """A group on ``http_port``, with ``home`` for its ``GROUPQWEN_HOME``, until the block ends. Gives an API key.

    Args:
        raw: its Serve config; that of the echo models by default.

    Raises:
        LaunchError: it could not be started.
    """
    # The group under test has a database of its own, whatever this shell's group uses.
    os.environ.pop("GROUPQWEN_DATABASE_URL", None)
    environment = Environment.read({"GROUPQWEN_HOME": str(home)})
    folder = RunFolder(environment)
    path = home / "benchmark.yaml"
    path.write_text(yaml.safe_dump(raw or config(http_port), sort_keys=False), encoding="utf-8")
    key = asyncio.run(_make_key(environment.database_url))
    try:
        # What starting and stopping say is progress here, not a result.
        with redirect_stdout(sys.stderr):
            group.start(folder, path, http_port)
        yield key
    finally:
        with uninterrupted(), redirect_stdout(sys.stderr):
            started = folder.read()
            if started is not None:
                group.stop(folder, started)


async def _make_key(database_url: str) -> str:
    async with Store(database_url) as store:
        new = await store.keys.create("benchmark", ["inference"], _NO_LIMIT, _NO_LIMIT)
        return new.secret


def base_url(http_port: int) -> str:
    """Where the group answers, in OpenAI's API."""
    return f"http://127.0.0.1:{http_port}/v1"
