"""The group under test: the gateway of ``configs/local.yaml`` and the echo models, started by ``serve.launch``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
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


def echo_config(http_port: int) -> dict[str, Any]:
    """A Serve config with an application for each echo model."""
    return config(http_port, [_application(model) for model in echo.MODELS])


def config(http_port: int, models: list[dict[str, Any]]) -> dict[str, Any]:
    """A Serve config: the gateway of ``configs/local.yaml`` with its access log on, and ``models``."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text(encoding="utf-8"))
    gateway = next(one for one in raw["applications"] if one["import_path"] == GATEWAY)
    gateway["args"]["access_log"] = True
    # These name models that are not here; every request of a benchmark names its own.
    for key in ("routing", "fine_tuning"):
        del gateway["deployments"][0]["user_config"][key]
    raw["http_options"]["port"] = http_port
    raw["applications"] = [gateway, *models]
    return raw


def _application(model: str) -> dict[str, Any]:
    return application(echo.args(model), _STREAMS)


def application(args: dict[str, Any], streams: int) -> dict[str, Any]:
    """The application of one model with one replica that takes ``streams`` requests at once."""
    return {
        "name": args["id"],
        "route_prefix": f"/m/{args['id']}",
        "import_path": MODEL,
        "args": args,
        "deployments": [
            {
                "name": "Model",
                "num_replicas": 1,
                "max_ongoing_requests": streams,
                "max_queued_requests": streams,
                "backpressure_config": {"status_code": 429, "retry_after_s": 1},
                "ray_actor_options": {"num_cpus": 0.1},
            }
        ],
    }


@contextmanager
def running(config: dict[str, Any], home: Path, scopes: Sequence[str] = ("inference",)) -> Iterator[str]:
    """The group of ``config``, with ``home`` for its ``GROUPQWEN_HOME``, until the block ends. Gives an API key with
    these scopes.

    Raises:
        LaunchError: it could not be started.
    """
    # The group under test has a database of its own, whatever this shell's group uses.
    os.environ.pop("GROUPQWEN_DATABASE_URL", None)
    os.environ["GROUPQWEN_MODELS_DIR"] = str(Environment.read().models_dir)
    environment = Environment.read({"GROUPQWEN_HOME": str(home)})
    folder = RunFolder(environment)
    path = home / "benchmark.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    key = asyncio.run(_make_key(environment.database_url, scopes))
    try:
        # What starting and stopping say is progress here, not a result.
        with redirect_stdout(sys.stderr):
            group.start(folder, path, config["http_options"]["port"])
        yield key
    finally:
        with uninterrupted(), redirect_stdout(sys.stderr):
            started = folder.read()
            if started is not None:
                group.stop(folder, started)


async def _make_key(database_url: str, scopes: Sequence[str]) -> str:
    async with Store(database_url) as store:
        new = await store.keys.create("benchmark", scopes, _NO_LIMIT, _NO_LIMIT)
        return new.secret


def base_url(http_port: int) -> str:
    """Where the group answers, in OpenAI's API."""
    return f"http://127.0.0.1:{http_port}/v1"
