"""Deploys a config to the Ray node of this machine and waits until every model answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import requests
import yaml

from serve import models
from serve.launch import ray_node, rest
from serve.launch.errors import LaunchError
from serve.launch.progress import say, waiting
from serve.launch.run_folder import RunFolder, Running
from serve.residency.group import group_memory
from serve.residency.limit import node_limit
from serve.settings.config import GroupConfig, check
from serve.settings.environment import Environment

READY_SECONDS = 900
_CONTROLLER_SECONDS = 0.5


def with_port(config: Path, port: int | None) -> tuple[dict[str, Any], GroupConfig]:
    """The config's content and what is read out of it, with its HTTP port replaced where ``port`` is given."""
    raw: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    if port is not None:
        raw["http_options"] = {**raw.get("http_options", {}), "port": port}
    return raw, check(raw)


def start(folder: RunFolder, config: Path, port: int | None) -> GroupConfig:
    """Bring the group of ``config`` up, whatever of it already runs.

    Raises:
        LaunchError, SettingsError, ModelSourceError: with one line that says what to do.
    """
    raw, group = with_port(config, port)
    _require_fit(group)
    weights = {model.id: model.weights for model in group.models if model.weights is not None}
    fetched = dict(models.fetch_all(weights, progress=True))
    if failures := [str(failure) for failure in fetched.values() if isinstance(failure, models.ModelSourceError)]:
        raise LaunchError("\n".join(failures))
    # Once more, now that the files can say what their caches take.
    _require_fit(group)
    http_port = group.file.http_options.port
    running = folder.read()
    if running is not None and running.http_port != http_port:
        raise LaunchError(
            f"the group already runs on port {running.http_port}; run scripts/stop.sh first to use {http_port}"
        )
    if running is None:
        ray_node.start(folder, http_port)
    folder.write_env_file()
    _forget_failed(folder, raw)
    begun = time.time()
    with waiting("deploying") as tick:
        tick()
        rest.deploy(folder, raw)
    _wait_ready(folder, group, begun)
    return group


def _require_fit(group: GroupConfig) -> None:
    """Raise ``SettingsError``, after a table, when the group does not fit into this node's memory."""
    memory = group_memory(group, node_limit(Environment.read()))
    if not memory.fits:
        say(memory.table())
    memory.require_fit()


def _forget_failed(folder: RunFolder, raw: dict[str, Any]) -> None:
    """Take applications that could not be started out of Serve, which would not try the same config again."""
    failed = {name for name, one in rest.applications(folder).items() if one["status"] == "DEPLOY_FAILED"}
    if not failed:
        return
    with waiting(f"removing what could not be started: {', '.join(sorted(failed))}") as tick:
        others = [one for one in raw["applications"] if one["name"] not in failed]
        rest.deploy(folder, {**raw, "applications": others})
        deadline = time.monotonic() + READY_SECONDS
        while failed & rest.applications(folder).keys():
            tick()
            if time.monotonic() > deadline:
                raise LaunchError("Serve does not let go of them; run scripts/stop.sh and start again")
            time.sleep(_CONTROLLER_SECONDS)


def stop(folder: RunFolder, running: Running) -> None:
    """Shut Serve down and then Ray; the other order would leave Serve's proxy behind on its ports."""
    with waiting("stopping the group") as tick:
        tick()
        try:
            rest.shutdown(folder)
        except LaunchError as error:
            say(f"Ray is stopped all the same: {error}")
    ray_node.stop(folder, running)


def _wait_ready(folder: RunFolder, group: GroupConfig, begun: float) -> None:
    wanted = {application.name for application in group.file.applications}
    port = group.file.http_options.port
    deadline = time.monotonic() + READY_SECONDS
    # Serve's controller looks at a new config ten times a second; until then it tells the state of the old one.
    time.sleep(_CONTROLLER_SECONDS)
    with waiting("waiting for the models") as tick:
        while True:
            missing = _not_deployed(rest.applications(folder), wanted, begun) or _not_ready(port)
            if not missing:
                return
            tick(", ".join(sorted(missing)))
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"not ready after {READY_SECONDS} s: {', '.join(sorted(missing))}; see `serve status`"
                )
            time.sleep(0.5)


def _not_deployed(found: dict[str, Any], wanted: set[str], begun: float) -> set[str]:
    """Which of ``wanted`` Serve has not brought to the config that was deployed at ``begun``.

    Raises:
        LaunchError: Serve has given up on one of them.
    """
    missing = set()
    for name in wanted:
        application = found.get(name)
        if application is None or application["last_deployed_time_s"] < begun:
            missing.add(name)
        elif application["status"] == "DEPLOY_FAILED":
            reasons = [deployment["message"] for deployment in application["deployments"].values()]
            reason = _last_line("\n".join([application["message"], *reasons]))
            raise LaunchError(f"{name} could not be started: {reason}")
        elif application["status"] != "RUNNING":
            missing.add(name)
    return missing


def _not_ready(port: int) -> set[str]:
    """Which models the gateway waits for; ``gateway`` when it cannot be asked."""
    try:
        ready = requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
        return set() if ready.status_code == 200 else set(ready.json()["waiting_for"]) or {"gateway"}
    except (requests.RequestException, ValueError, KeyError):
        return {"gateway"}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
