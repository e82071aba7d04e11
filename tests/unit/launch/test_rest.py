"""What Serve's REST API is asked, and how its refusals are told; a small server stands for Ray's dashboard."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serve.launch import rest
from serve.launch.errors import LaunchError
from serve.launch.run_folder import RunFolder
from serve.settings.environment import Environment

CONFIG = {"applications": [{"name": "m", "route_prefix": "/m"}]}


class Dashboard:
    """Answers every request with ``status`` and ``text``, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.text = 200, ""
        self.asked: list[tuple[str, str | None, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                token = self.headers.get("authorization")
                outer.asked.append((self.command, token, json.loads(body) if body else None))
                self.send_response(outer.status)
                self.send_header("content-length", str(len(outer.text.encode())))
                self.end_headers()
                self.wfile.write(outer.text.encode())

            do_GET = do_PUT = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/serve/applications/"


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    made = Dashboard()
    monkeypatch.setattr(rest, "_URL", made.url)
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(Environment.read({"GROUPQWEN_HOME": str(tmp_path)}))


def test_a_config_is_sent_as_it_is_with_the_token(dashboard: Dashboard, folder: RunFolder) -> None:
    rest.deploy(folder, CONFIG)
    token = (folder.path / "ray_token").read_text(encoding="ascii")
    assert dashboard.asked == [("PUT", f"Bearer {token}", CONFIG)]


def test_it_is_shut_down_by_one_request(dashboard: Dashboard, folder: RunFolder) -> None:
    rest.shutdown(folder)
    assert [(method, body) for method, _, body in dashboard.asked] == [("DELETE", None)]


def test_applications_are_told_and_none_where_it_cannot_be_asked(dashboard: Dashboard, folder: RunFolder) -> None:
    dashboard.text = '{"applications": {"m": {"status": "RUNNING"}}}'
    assert rest.applications(folder) == {"m": {"status": "RUNNING"}}
    dashboard.status = 503
    assert rest.applications(folder) == {}


@pytest.mark.parametrize(
    ("status", "text", "told"),
    [
        (
            400,
            "1 validation error\n  applications.0.name\n    Field required",
            "1 validation error applications.0.name",
        ),
        (
            500,
            "Traceback (most recent call last):\n  a frame\nTimeoutError: no proxy after 60s.\n",
            "no proxy after 60s",
        ),
        (401, "", "401"),
    ],
)
def test_a_refusal_is_told_in_a_line(
    dashboard: Dashboard, folder: RunFolder, status: int, text: str, told: str
) -> None:
    dashboard.status, dashboard.text = status, text
    with pytest.raises(LaunchError, match=r"^Serve did not take the config: [^\n]+$") as raised:
        rest.deploy(folder, CONFIG)
    assert told in str(raised.value) and "a frame" not in str(raised.value)
    with pytest.raises(LaunchError, match="Serve was not shut down"):
        rest.shutdown(folder)


def test_what_json_does_not_have_is_told(dashboard: Dashboard, folder: RunFolder) -> None:
    with pytest.raises(LaunchError, match="date is not JSON"):
        rest.deploy(folder, {"logging_config": {"since": date(2026, 1, 1)}})
    assert dashboard.asked == []


def test_a_dashboard_that_is_not_there_is_told(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "_URL", "http://127.0.0.1:9/api/serve/applications/")
    with pytest.raises(LaunchError, match="refused"):
        rest.deploy(folder, CONFIG)
    with pytest.raises(LaunchError, match="refused"):
        rest.shutdown(folder)
