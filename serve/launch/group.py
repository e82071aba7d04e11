"""Deploys a config to the Ray node of this machine and waits until every model answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import requests
import yaml

from serve import models
from serve.launch import ray_node
from serve.launch.errors import LaunchError
from serve.launch.progress import say, waiting
from serve.launch.run_folder import DASHBOARD_PORT, RunFolder, Running
from serve.settings.config import GroupConfig, check

READY_SECONDS = 900
#: How often Serve is asked for failures while the gateway is not ready.
_STATUS_EVERY_SECONDS = 5.0


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
    for model in group.models:
        if model.weights is not None:
            models.fetch(model.id, model.weights, progress=True)
    http_port = group.file.http_options.port
    running = folder.read()
    if running is not None and running.http_port != http_port:
        raise LaunchError(
            f"the group already runs on port {running.http_port}; run scripts/stop.sh first to use {http_port}"
        )
    if running is None:
        ray_node.start(folder, http_port)
    folder.write_env_file()
    folder.config.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    with waiting("deploying") as tick:
        tick()
        result = ray_node.run(folder, ["serve", "deploy", str(folder.config)])
        if result.returncode != 0:
            raise LaunchError(f"`serve deploy` failed: {_last_line(result.stderr)}")
    _wait_ready(folder, group)
    return group


def stop(folder: RunFolder, running: Running) -> None:
    """Shut Serve down and then Ray; the other order would leave Serve's proxy behind on its ports."""
    with waiting("stopping the group") as tick:
        tick()
        result = ray_node.run(folder, ["serve", "shutdown", "-y"])
    if result.returncode != 0:
        say(f"`serve shutdown` failed and Ray is stopped all the same: {_last_line(result.stderr)}")
    ray_node.stop(folder, running)


def _wait_ready(folder: RunFolder, group: GroupConfig) -> None:
    wanted = {model.id for model in group.models}
    port = group.file.http_options.port
    deadline = time.monotonic() + READY_SECONDS
    asked = time.monotonic()
    with waiting("waiting for the models") as tick:
        while True:
            missing = _not_ready(port, wanted)
            if not missing:
                return
            tick(", ".join(sorted(missing)))
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"not ready after {READY_SECONDS} s: {', '.join(sorted(missing))}; see `serve status`"
                )
            if time.monotonic() - asked > _STATUS_EVERY_SECONDS:
                asked = time.monotonic()
                _raise_failures(folder)
            time.sleep(0.5)


def _not_ready(port: int, wanted: set[str]) -> set[str]:
    """Which of ``wanted`` cannot answer yet; ``gateway`` when it cannot be asked."""
    base = f"http://127.0.0.1:{port}"
    try:
        ready = requests.get(f"{base}/readyz", timeout=5)
        listed = requests.get(f"{base}/v1/health", timeout=5)
        states = listed.json()["models"]
    except (requests.RequestException, ValueError, KeyError):
        return {"gateway"}
    missing = {name for name in wanted if states.get(name, {}).get("state") != "ready"}
    return missing or (set() if ready.status_code == 200 else set(ready.json()["waiting_for"]) or {"gateway"})


def _raise_failures(folder: RunFolder) -> None:
    """Raise when Serve has given up on an application."""
    token = Path(folder.variables()["RAY_AUTH_TOKEN_PATH"]).read_text(encoding="ascii")
    answer = requests.get(
        f"http://127.0.0.1:{DASHBOARD_PORT}/api/serve/applications/",
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    if answer.status_code != 200:
        return
    for name, application in json.loads(answer.text).get("applications", {}).items():
        if application["status"] == "DEPLOY_FAILED":
            raise LaunchError(f"{name} could not be started: {_last_line(application['message'])}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
