"""What the gateway asks of Ray Serve, and the only module that uses parts of Ray that are not public.

Ray is pinned in pyproject.toml because of it: what comes from its ``_private`` packages, and ``_get_global_client``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import serve as ray_serve
from ray._private.services import get_webui_url_from_internal_kv
from ray._private.state import available_resources_per_node
from ray.exceptions import RayError
from ray.serve._private.constants import RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD
from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from ray.serve._private.logging_utils import get_serve_logs_dir
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import Message, Receive

from serve.capacity import Capacity, Node, Resources
from serve.errors import Unavailable

MODEL_DEPLOYMENT = "Model"
TASK_DEPLOYMENT = "Task"

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Json = dict[str, Any]


class WakeFailed(Exception):
    """A model that was asleep could not be started."""


@dataclass(frozen=True, slots=True)
class ModelApplication:
    """The application of a model or a task as Serve sees it.

    Attributes:
        status: Serve's own word: RUNNING, DEPLOYING, DEPLOY_FAILED, UNHEALTHY, NOT_STARTED, DELETING.
        message: why, where Serve says.
        deployed_at: when it was last deployed, seconds since 1970.
        running: replicas that can answer; none while Serve builds a new form of the application and does not say.
        wanted: replicas that there should be; none where Serve does not say.
        may_sleep: whether Serve may leave it without a replica when nobody asks.
        handler: what runs it, as its config says.
        residency: whether it stays in memory, as its config says.
        nodes: where its replicas are.
        task: what the task is called, ``translation`` for one; none for a model.
    """

    id: str
    status: str
    message: str
    deployed_at: float
    running: int | None
    wanted: int | None = None
    may_sleep: bool = False
    handler: str | None = None
    residency: str = "always"
    nodes: frozenset[str] = frozenset()
    task: str | None = None


async def model_applications() -> dict[str, ModelApplication]:
    """Every application of a model or a task that Serve knows, by id."""
    return await asyncio.to_thread(_model_applications)


def _model_applications() -> dict[str, ModelApplication]:
    # serve.status() says the same, but builds every application's whole config anew: 57 ms of processor time a call.
    details = _get_global_client().get_serve_details()
    own = ray_serve.get_replica_context().app_name
    found = {}
    for name, application in details["applications"].items():
        deployments = application["deployments"]
        deployment = deployments.get(MODEL_DEPLOYMENT) or deployments.get(TASK_DEPLOYMENT)
        if name == own or (deployment is None and deployments):
            continue
        found[name] = _model_application(name, application, deployment)
    return found


def _model_application(name: str, application: Json, deployment: Json | None) -> ModelApplication:
    replicas = deployment["replicas"] if deployment else ()
    scaling = (deployment["deployment_config"].get("autoscaling_config") if deployment else None) or {}
    args = (application.get("deployed_app_config") or {}).get("args") or {}
    return ModelApplication(
        id=name,
        status=application["status"],
        message=(deployment["message"] if deployment else "") or application["message"],
        deployed_at=application["last_deployed_time_s"],
        running=sum(one["state"] == "RUNNING" for one in replicas) if deployment else None,
        wanted=deployment["target_num_replicas"] if deployment else None,
        may_sleep=scaling.get("min_replicas") == 0,
        handler=args.get("handler"),
        residency=args.get("residency", "always"),
        nodes=frozenset(one["node_id"] for one in replicas if one.get("node_id")),
        task=args.get("task"),
    )


async def capacity() -> Capacity:
    """The cluster's resources, and serving's minimum."""
    return await asyncio.to_thread(capacity_now)


def capacity_now() -> Capacity:
    """The same, for programs that may wait; where Serve does not run it has no minimum."""
    free = available_resources_per_node()
    nodes = tuple(
        Node(one["NodeID"], one["Resources"], free.get(one["NodeID"], {})) for one in ray.nodes() if one["Alive"]
    )
    minimum: list[Resources] = []
    missing: list[Resources] = []
    client = _get_global_client(raise_if_no_controller_running=False)
    details: Json = {"applications": {}} if client is None else client.get_serve_details()
    for application in details["applications"].values():
        for deployment in application["deployments"].values():
            config = deployment["deployment_config"]
            bundles = config.get("placement_group_bundles") or [deployment["required_resources"]]
            scaling = config.get("autoscaling_config")
            least = scaling["min_replicas"] if scaling else config["num_replicas"]
            placed = sum(one["state"] in _PLACED for one in deployment["replicas"])
            minimum += bundles * least
            missing += bundles * max(0, least - placed)
    return Capacity(nodes, tuple(minimum), tuple(missing))


#: Replicas that have their resources already.
_PLACED = ("RUNNING", "UPDATING", "RECOVERING")


async def job_addresses() -> tuple[str, str]:
    """Where Ray's dashboard, and with it the Job API, is reached from this node, and where the cluster is.

    Raises:
        Unavailable: there is no dashboard.
    """
    return await asyncio.to_thread(_job_addresses)


def _job_addresses() -> tuple[str, str]:
    found = get_webui_url_from_internal_kv()
    if not found:
        raise Unavailable("Ray runs without its dashboard here, which jobs are submitted to.", code="no_job_api")
    return f"http://{found}", ray.get_runtime_context().gcs_address


def own_host(host: str) -> str:
    """The address at which this machine reaches a proxy that listens on ``host``."""
    return host if host in _LOOPBACK else "127.0.0.1"


async def http_address() -> tuple[str, int]:
    """The host and the port that Serve's proxy listens on, as its config says."""
    return await asyncio.to_thread(_http_address)


def _http_address() -> tuple[str, int]:
    client = _get_global_client()
    options = ray.get(client._controller.get_http_config.remote())
    return options.host or "0.0.0.0", options.port  # noqa: S104 - what Serve does when no host is set


class Waker:
    """Wakes models that have no replica."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}

    async def wake(self, model_id: str, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Ask a model something, so that Serve starts a replica, and wait until it has answered.

        A call through a handle waits in this process's router, which tells Serve's controller at once; a request over
        HTTP would not reach anyone.

        Raises:
            WakeFailed: Serve could not start it.
        """
        # A new handle each time: the first report of a handle has the call that waits now, later ones have what was
        # recorded up to metrics_interval_s ago. The one before reports that nothing waits until it is replaced.
        before = self._handles.get(model_id)
        handle = self._handles[model_id] = DeploymentHandle(MODEL_DEPLOYMENT, model_id)
        pieces = handle.options(stream=True).ask.remote(method, path, headers, b"")
        try:
            async for _ in pieces:
                pass
        except (RayError, RayServeException) as error:
            raise WakeFailed(str(error)) from error
        except asyncio.CancelledError:
            pieces.cancel()
            raise
        finally:
            if before is not None:
                await before.shutdown_async()


def model_handle(model_id: str) -> Any:  # noqa: ANN401 - Ray's handle is not typed
    """A handle that streams a model's answers."""
    return ray_serve.get_app_handle(model_id).options(stream=True)


def replica_log(kind: str) -> Path:
    """The file for logs of ``kind`` of the replica that asks, in the folder of Serve's own logs on this node."""
    return Path(get_serve_logs_dir()) / f"{kind}_{ray_serve.get_replica_context().replica_id.unique_id}.log"


def hold_back(receive: Receive, messages: int) -> None:
    """Let Serve read no more than ``messages`` ahead of who reads a request's body.

    Serve puts all that a client sends into a queue without end, so that an upload which comes faster than the disk
    takes it would stand in memory. Behind HAProxy, where replicas run on their own event loop, that queue is given an
    end, and the client has to wait; elsewhere nothing is changed.
    """
    if isinstance(receive, ASGIDIReceiveProxy) and not RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD:
        waiting = receive.queue
        bounded: asyncio.Queue[Message] = asyncio.Queue(max(messages, waiting.qsize()))
        while not waiting.empty():
            bounded.put_nowait(waiting.get_nowait())
        receive._queue = bounded
