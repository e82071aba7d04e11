"""A right config as plain data, to be made wrong in one place by each test."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from serve.settings.config import check
from serve.settings.errors import SettingsError

Json = dict[str, Any]

DEPLOYMENT: Json = {
    "num_replicas": 1,
    "max_ongoing_requests": 8,
    "max_queued_requests": 8,
    "backpressure_config": {"status_code": 429, "retry_after_s": 1},
}
AUTOSCALING: Json = {
    "min_replicas": 1,
    "initial_replicas": 1,
    "max_replicas": 2,
    "target_ongoing_requests": 4,
    "upscale_delay_s": 10,
    "downscale_delay_s": 60,
}
WEIGHTS: Json = {
    "file": "model.gguf",
    "bytes": 5,
    "sha256": "0" * 64,
    "sources": [{"path": "/models/model.gguf"}],
}


FOLDER: Json = {
    "folder": "checkpoint",
    "files": [{"file": "model.safetensors", "bytes": 5, "sha256": "0" * 64}],
    "sources": [{"path": "/models/checkpoint"}],
}


def gateway() -> Json:
    """A gateway with a routing rule."""
    routing = {"rules": [{"name": "code", "when": {"code": True}, "models": ["quick"]}], "default": ["quick"]}
    return {
        "name": "gateway",
        "route_prefix": "/",
        "import_path": "serve.app:gateway",
        "deployments": [{"name": "Gateway", **deepcopy(DEPLOYMENT), "user_config": {"routing": routing}}],
    }


def model(id: str, **args: Any) -> Json:
    """A model on the handler without one."""
    return {
        "name": id,
        "route_prefix": f"/m/{id}",
        "import_path": "serve.app:model",
        "args": {"id": id, "handler": "echo", **args},
        "deployments": [{"name": "Model", **deepcopy(DEPLOYMENT)}],
    }


def config() -> Json:
    """A gateway and two models."""
    weights = deepcopy(WEIGHTS)
    strong = model("strong", handler="llamacpp", weights=weights, engine={"context": 2048})
    return {"http_options": {"host": "127.0.0.1"}, "applications": [gateway(), model("quick"), strong]}


def at(raw: Any, *path: int | str) -> Any:
    """What lies at ``path``."""
    for step in path:
        raw = raw[step]
    return raw


def faults(change: Callable[[Json], object]) -> list[str]:
    """The lines that tell what ``change`` has made wrong in a right config."""
    raw = config()
    change(raw)
    with pytest.raises(SettingsError) as raised:
        check(raw)
    return str(raised.value).splitlines()


def fault(path: tuple[int | str, ...], value: object) -> str:
    """The one line that tells what is wrong when ``value`` stands at ``path``."""
    (line,) = faults(lambda raw: at(raw, *path[:-1]).__setitem__(path[-1], value))
    return line
