"""The builders that a Serve config names as ``import_path``: config in, bound application out."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ray import serve as ray_serve
from ray.serve import Application

from serve.settings.errors import SettingsError, fault_lines
from serve.settings.gateway import GatewaySettings
from serve.settings.model import ModelSettings

T = TypeVar("T", bound=BaseModel)


def gateway(args: dict[str, Any]) -> Application:
    """The ingress of the group, from a ``GatewaySettings`` block."""
    from serve.gateway.deployment import Gateway

    return ray_serve.deployment(Gateway, name="Gateway").bind(_parse(GatewaySettings, args))


def model(args: dict[str, Any]) -> Application:
    """One model of the group, from a ``ModelSettings`` block."""
    from serve.replica.deployment import Model

    return ray_serve.deployment(Model, name="Model").bind(_parse(ModelSettings, args))


def _parse(kind: type[T], args: dict[str, Any]) -> T:
    try:
        return kind.model_validate(args)
    except ValidationError as error:
        raise SettingsError("\n".join(fault_lines(error, kind, "args"))) from None
