"""The builders that a Serve config names as ``import_path``: config in, bound application out."""

from __future__ import annotations

from typing import Any

from ray import serve as ray_serve
from ray.serve import Application

from serve.settings.engines import VllmEngine
from serve.settings.errors import parsed
from serve.settings.gateway import GatewaySettings
from serve.settings.model import ModelSettings
from serve.settings.task import task_settings


def gateway(args: dict[str, Any]) -> Application:
    """The ingress of the group, from a ``GatewaySettings`` block."""
    from serve.gateway.deployment import Gateway

    return ray_serve.deployment(Gateway, name="Gateway").bind(parsed(GatewaySettings, args, "args"))


def model(args: dict[str, Any]) -> Application:
    """One model of the group, from a ``ModelSettings`` block."""
    from serve.replica.deployment import Model

    settings = parsed(ModelSettings, args, "args")
    return ray_serve.deployment(Model, name="Model", **_placement(settings)).bind(settings)


def task(args: dict[str, Any]) -> Application:
    """One task of the group, from a ``TaskSettings`` block."""
    from serve.tasks.deployment import Task

    return ray_serve.deployment(Task, name="Task").bind(task_settings(args, "args"))


def _placement(settings: ModelSettings) -> dict[str, Any]:
    """Deployment options of a replica with several GPUs: a bundle for each; they may be on other nodes."""
    bundles = settings.engine.bundles if isinstance(settings.engine, VllmEngine) else []
    return {"placement_group_bundles": bundles, "placement_group_strategy": "PACK"} if bundles else {}
