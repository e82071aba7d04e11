"""A real group on a real local Ray, for tests: started once, deployed to many times."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

from serve.launch import group as launch_group
from serve.launch import ray_node, rest
from serve.launch.run_folder import RunFolder
from serve.settings.environment import Environment

T = TypeVar("T")
Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
BACKPRESSURE = {"status_code": 429, "retry_after_s": 1}
#: The scaling of a model that sleeps at first, and again soon after its last request.
SLEEPS: Json = {
    "autoscaling_config": {
        "min_replicas": 0,
        "initial_replicas": 0,
        "max_replicas": 1,
        "target_ongoing_requests": 8,
        "upscale_delay_s": 1,
        "downscale_delay_s": 2,
        "metrics_interval_s": 0.5,
        "look_back_period_s": 2,
    }
}


def application(name: str, route: str, kind: str, args: Json | None, **deployment: Any) -> Json:
    """An application of ``serve.app``.

    Args:
        kind: its builder; the deployment has its name, with a capital.
        deployment: in place of, or besides, what is here.
    """
    return {
        "name": name,
        "route_prefix": route,
        "import_path": f"serve.app:{kind}",
        **({} if args is None else {"args": args}),
        "deployments": [
            {
                "name": kind.capitalize(),
                **({} if "autoscaling_config" in deployment else {"num_replicas": 1}),
                "max_ongoing_requests": 16,
                "max_queued_requests": 16,
                "backpressure_config": BACKPRESSURE,
                "ray_actor_options": {"num_cpus": 0.05},
                "health_check_period_s": 2,
                "graceful_shutdown_timeout_s": 10,
                **deployment,
            }
        ],
    }


def gateway(**user_config: Any) -> Json:
    """The gateway's application."""
    queues = {"max_ongoing_requests": 1000, "max_queued_requests": 200}
    return application("gateway", "/", "gateway", None, **queues, user_config=user_config)


def model_application(args: Json, **deployment: Any) -> Json:
    """A model's application."""
    return application(args["id"], f"/m/{args['id']}", "model", args, **deployment)


def task_application(name: str, **deployment: Any) -> Json:
    """A task's application."""
    return application(name, f"/t/{name}", "task", {"id": name, "task": name}, **deployment)


def echo(name: str, *, sampling: Json | None = None, deployment: Json | None = None, **engine: Any) -> Json:
    """A model application that runs the echo handler."""
    more = {
        "max_ongoing_requests": 64,
        "max_queued_requests": 64,
        "user_config": {"sampling": sampling or {}},
        **(deployment or {}),
    }
    return model_application({"id": name, "handler": "echo", "engine": engine}, **more)


def config(*applications: Json, port: int) -> Json:
    """A Serve config on loopback."""
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "logging_config": {"log_level": "WARNING", "enable_access_log": False},
        "applications": list(applications),
    }


class Group:
    """A running group.

    Attributes:
        url: where it listens.
        config: the file of what was deployed last.
    """

    def __init__(self, folder: RunFolder, port: int) -> None:
        self.folder = folder
        self.config = folder.path / "test.yaml"
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=120)

    def deploy(self, *applications: Json, seconds: float = 90, states: dict[str, str] | None = None) -> None:
        """Deploy these applications, as `serve deploy` does, and wait until Serve runs them and the gateway knows.

        Args:
            states: what the gateway must say of each model; by default that it is ready.
        """
        begun = time.time()
        wanted_config = config(*applications, port=self.port)
        self.config.write_text(yaml.safe_dump(wanted_config), encoding="utf-8")
        rest.deploy(self.folder, wanted_config)
        # Serve's controller looks at a new config ten times a second; until then it tells the state of the old one.
        time.sleep(0.5)
        wanted = {one["name"] for one in applications}
        self.until(lambda: self._runs(wanted, begun), f"Serve runs {wanted}", seconds)
        expected = dict.fromkeys(wanted - {"gateway"}, "ready") if states is None else states
        self.until(lambda: self.models() == expected, f"the gateway has {expected}")

    def details(self) -> Json:
        """What Ray's dashboard says of every application, replicas included."""
        return rest.applications(self.folder)

    def replicas(self, application: str) -> dict[str, int]:
        """The running replicas of an application: id -> process id."""
        deployments = self.details().get(application, {}).get("deployments", {})
        return {
            replica["replica_id"]: replica["pid"]
            for deployment in deployments.values()
            for replica in deployment["replicas"]
            if replica["state"] == "RUNNING"
        }

    def models(self) -> dict[str, str]:
        """The models that the gateway lists, with their state; ``auto`` and adapters apart. Empty while it cannot be
        asked."""
        try:
            listed = self.client.get("/v1/models").json()["data"]
        except (httpx.TransportError, ValueError, KeyError):
            return {}
        return {one["id"]: one["state"] for one in listed if one["id"] != "auto" and "parent" not in one}

    def info(self, model: str) -> Json:
        """What a replica of a model says of itself and of its engine's load."""
        token = self.folder.variables()["GROUPQWEN_INTERNAL_TOKEN"]
        found: Json = self.client.get(f"/m/{model}/info", headers={"x-groupqwen-internal": token}).json()
        return found

    def until(self, look: Callable[[], T], what: str, seconds: float = 90) -> T:
        """Look again and again until ``look`` gives something true."""
        deadline = time.monotonic() + seconds
        while True:
            found = look()
            if found:
                return found
            assert time.monotonic() < deadline, f"after {seconds} s still not: {what}; Serve says {self._brief()}"
            # Ray's dashboard takes 60 ms of a processor to tell Serve's state, which starting replicas could use.
            time.sleep(0.5)

    def _runs(self, wanted: set[str], begun: float) -> bool:
        found = self.details()
        return set(found) == wanted and all(
            one["status"] == "RUNNING" and one["last_deployed_time_s"] >= begun for one in found.values()
        )

    def _brief(self) -> Json:
        return {
            name: (one["status"], one["message"], [d["message"][-600:] for d in one["deployments"].values()])
            for name, one in self.details().items()
        }


@contextmanager
def running_group(home: Path, start: Json, **environment: str) -> Iterator[Group]:
    """Start Ray and a group from nothing, with ``environment`` set; stop both at the end."""
    before = dict(os.environ)
    models = str(Environment.read().models_dir)
    os.environ.update({"GROUPQWEN_MODELS_DIR": models, **environment, "GROUPQWEN_HOME": str(home)})
    try:
        folder = RunFolder(Environment.read())
        path = home / "start.yaml"
        path.write_text(yaml.safe_dump(start), encoding="utf-8")
        try:
            launch_group.start(folder, path, None)
            yield Group(folder, start["http_options"]["port"])
        finally:
            running = folder.read()
            if running is not None:
                launch_group.stop(folder, running)
            assert not ray_node.port_open(start["http_options"]["port"]), "Serve's proxy was left behind"
    finally:
        os.environ.clear()
        os.environ.update(before)
