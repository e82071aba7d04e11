"""What the gateway asks of Ray Serve, and the only module that uses parts of Ray that are not public.

Ray is pinned in pyproject.toml because of ``_get_global_client``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve as ray_serve
from ray.serve.context import _get_global_client

MODEL_DEPLOYMENT = "Model"


@dataclass(frozen=True, slots=True)
class ModelApplication:
    """A model's application as Serve sees it.

    Attributes:
        status: Serve's own word: RUNNING, DEPLOYING, DEPLOY_FAILED, UNHEALTHY, NOT_STARTED, DELETING.
        message: why, where Serve says.
        deployed_at: when it was last deployed, seconds since 1970.
        running: replicas that can answer; none while Serve builds a new form of the application and does not say.
    """

    id: str
    status: str
    message: str
    deployed_at: float
    running: int | None


async def model_applications() -> dict[str, ModelApplication]:
    """Every model application that Serve knows, by id."""
    return await asyncio.to_thread(_model_applications)


def _model_applications() -> dict[str, ModelApplication]:
    # serve.status() says the same, but builds every application's whole config anew: 57 ms of processor time a call.
    details = _get_global_client().get_serve_details()
    own = ray_serve.get_replica_context().app_name
    found = {}
    for name, application in details["applications"].items():
        deployment = application["deployments"].get(MODEL_DEPLOYMENT)
        if name == own or (deployment is None and application["deployments"]):
            continue
        replicas = deployment["replicas"] if deployment else ()
        found[name] = ModelApplication(
            id=name,
            status=application["status"],
            message=(deployment["message"] if deployment else "") or application["message"],
            deployed_at=application["last_deployed_time_s"],
            running=sum(one["state"] == "RUNNING" for one in replicas) if deployment else None,
        )
    return found


async def http_address() -> tuple[str, int]:
    """The host and the port that Serve's proxy listens on, as its config says."""
    return await asyncio.to_thread(_http_address)


def _http_address() -> tuple[str, int]:
    client = _get_global_client()
    options = ray.get(client._controller.get_http_config.remote())
    return options.host or "0.0.0.0", options.port  # noqa: S104 - what Serve does when no host is set


def model_handle(model_id: str) -> Any:  # noqa: ANN401 - Ray's handle is not typed
    """A handle that streams a model's answers."""
    return ray_serve.get_app_handle(model_id).options(stream=True)
