"""LiteLLM's proxy, the rival: one worker, one key, no logs and no database, in front of the bare server."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from benchmarks import bare, echo
from benchmarks.environments import installed
from benchmarks.processes import require_free, server

VERSION = "1.104.3"


def install() -> Path:
    """Its program, installed when it is not there.

    Raises:
        BenchmarkError: it could not be installed.
    """
    return installed("litellm", f"litellm[proxy]=={VERSION}") / "litellm"


@contextmanager
def running(program: Path, port: int, upstream_port: int, folder: Path) -> Iterator[str]:
    """The proxy on ``port`` in front of the bare server on ``upstream_port``, until the block ends. Gives its key."""
    require_free(port, "LiteLLM")
    path = folder / "litellm.yaml"
    path.write_text(yaml.safe_dump(config(upstream_port), sort_keys=False), encoding="utf-8")
    command = [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1", "--telemetry", "False"]
    # It does not start without one.
    key = f"sk-{secrets.token_hex(32)}"
    environment = {
        **os.environ,
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOG": "ERROR",
        # Its list of prices comes with the package; asking the web for a newer one only delays the start.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONPATH": "",
    }
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    with server(f"litellm {VERSION}", command, ready, folder / "litellm.log", environment):
        yield key


def config(upstream_port: int) -> dict[str, object]:
    """LiteLLM's config: each echo model as an OpenAI-compatible server's."""
    return {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {
                    "model": f"openai/{model}",
                    "api_base": bare.base_url(upstream_port, model),
                    "api_key": "none",
                },
            }
            for model in echo.MODELS
        ],
        "litellm_settings": {"set_verbose": False, "telemetry": False, "callbacks": []},
    }


def base_url(port: int) -> str:
    """Where the proxy answers, in OpenAI's API."""
    return f"http://127.0.0.1:{port}/v1"
