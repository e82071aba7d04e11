"""Serve's REST API on this machine's Ray: what `serve deploy`, `serve status` and `serve shutdown` ask, without the
seconds in which those commands import Serve.

https://docs.ray.io/en/latest/serve/api/index.html#serve-rest-api
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from serve.launch.errors import LaunchError
from serve.launch.run_folder import DASHBOARD_PORT, RunFolder

_URL = f"http://127.0.0.1:{DASHBOARD_PORT}/api/serve/applications/"
_LOOK_SECONDS = 30
#: The first config is answered when Serve's controller and its proxies have started.
_CHANGE_SECONDS = 300
_REASON_LENGTH = 500


def deploy(folder: RunFolder, config: dict[str, Any]) -> None:
    """Make Serve bring its applications to ``config``, which it goes on with afterwards.

    Raises:
        LaunchError: it cannot be asked, or does not take the config; names what it finds wrong.
    """
    try:
        _ask("PUT", folder, _CHANGE_SECONDS, config)
    except requests.RequestException as error:
        raise LaunchError(f"Serve did not take the config: {_reason(error)}") from error
    except TypeError as error:  # YAML has dates, JSON has none.
        raise LaunchError(f"the config cannot be sent to Serve: {error}") from error


def shutdown(folder: RunFolder) -> None:
    """Make Serve end its applications and itself.

    Raises:
        LaunchError: it cannot be asked.
    """
    try:
        _ask("DELETE", folder, _CHANGE_SECONDS)
    except requests.RequestException as error:
        raise LaunchError(f"Serve was not shut down: {_reason(error)}") from error


def applications(folder: RunFolder) -> dict[str, Any]:
    """What Serve says of every application, replicas included; empty while it cannot be asked."""
    try:
        found: dict[str, Any] = _ask("GET", folder, _LOOK_SECONDS).json().get("applications", {})
    except requests.RequestException:
        return {}
    return found


def _ask(method: str, folder: RunFolder, seconds: float, config: dict[str, Any] | None = None) -> requests.Response:
    token = Path(folder.variables()["RAY_AUTH_TOKEN_PATH"]).read_text(encoding="ascii")
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.request(method, _URL, json=config, headers=headers, timeout=seconds)
    answer.raise_for_status()
    return answer


def _reason(error: requests.RequestException) -> str:
    """What Ray's dashboard says, on one line; else why it said nothing."""
    said = "" if error.response is None else error.response.text.strip()
    if "Traceback" in said:
        said = said.splitlines()[-1]
    return " ".join(said.split())[:_REASON_LENGTH] or str(error)
