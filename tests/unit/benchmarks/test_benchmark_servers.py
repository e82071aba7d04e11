"""What is put under test: configs, the bare server, processes that end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import bare, echo, group, machine, rival
from benchmarks.bars import POINTS
from benchmarks.errors import BenchmarkError
from benchmarks.gateway import sample_of
from benchmarks.load import Load
from benchmarks.processes import server, uninterrupted
from serve.handlers.echo import EchoHandler
from serve.protocol.chat import ChatEncoder
from serve.protocol.requests import ChatRequest
from serve.protocol.sampling import SamplingDefaults, resolve
from serve.replica.answers import send_stream
from serve.settings.config import check


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_the_group_under_test_is_a_right_config_with_every_echo_model() -> None:
    checked = check(group.echo_config(8100))
    assert [model.id for model in checked.models] == list(echo.MODELS)
    assert checked.file.http_options.port == 8100
    assert checked.gateway.access_log


def test_every_point_asks_a_model_that_is_there() -> None:
    assert {point.model for point in POINTS.values()} == set(echo.MODELS)


def test_the_rival_asks_the_bare_server() -> None:
    models = rival.config(8101)["model_list"]
    assert isinstance(models, list)
    assert [(one["model_name"], one["litellm_params"]["api_base"]) for one in models] == [
        (model, f"http://127.0.0.1:8101/m/{model}/v1") for model in echo.MODELS
    ]


async def test_the_bare_app_sends_what_a_replica_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.protocol.chat.new_id", lambda prefix: f"{prefix}-1")
    monkeypatch.setattr("serve.protocol.chat.time.time", lambda: 7)
    body = b'{"model":"echo-unpaced","messages":[{"role":"user","content":"hi"}],"stream":true}'
    scope = {"type": "http", "path": "/m/echo-unpaced/v1/chat/completions", "headers": []}
    sent: list[object] = []
    wanted: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: object) -> None:
        sent.append(message)

    async def send_wanted(message: object) -> None:
        wanted.append(message)

    await bare.Bare()(scope, receive, send)
    request = ChatRequest.model_validate_json(body)
    events = EchoHandler(echo.settings("echo-unpaced")).chat(request, resolve(request, SamplingDefaults()))
    await send_stream(send_wanted, events, ChatEncoder("echo-unpaced", 1, False), lambda usage: None)
    assert sent == wanted


def test_the_bare_server_answers_every_echo_model_and_ends(tmp_path: Path) -> None:
    port = free_port()
    with bare.running(port, tmp_path):
        for model in echo.MODELS:
            load = Load(bare.base_url(port, model), model, echo.TEXT, concurrency=2, seconds=0.1, warm_up=0.0)
            assert sample_of(load, model).frames == echo.TOKENS
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_model_that_a_server_does_not_have_fails_with_the_name_of_the_load(tmp_path: Path) -> None:
    port = free_port()
    with bare.running(port, tmp_path):
        load = Load(bare.base_url(port, "other"), "other", echo.TEXT, concurrency=1, seconds=0.1)
        with pytest.raises(BenchmarkError, match="some load: HTTP 404"):
            sample_of(load, "some load")


def test_a_server_is_not_started_on_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BenchmarkError, match="taken"), bare.running(taken.getsockname()[1], tmp_path):
            pytest.fail("the block must not run")


def test_a_server_that_ends_at_once_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]
    with pytest.raises(BenchmarkError, match=str(log)), server("a server", command, "http://127.0.0.1:9", log):
        pytest.fail("the block must not run")
    assert "no such thing" in log.read_text()


def test_children_of_a_server_end_with_it(tmp_path: Path) -> None:
    port, child = free_port(), tmp_path / "child"
    program = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(child)!r}, "w").write(str(child.pid))
subprocess.run([sys.executable, "-m", "http.server", {str(port)!r}, "--bind", "127.0.0.1"])
"""
    with server("a server", [sys.executable, "-c", program], f"http://127.0.0.1:{port}/", tmp_path / "log"):
        pid = int(child.read_text())
        assert psutil.pid_exists(pid)
    _, alive = psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not alive


def test_a_second_interrupt_does_not_break_off_the_ending() -> None:
    before = signal.getsignal(signal.SIGINT)
    with uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = machine.ROOT / "scripts" / "benchmark.py"
    return subprocess.run([sys.executable, str(path), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("--help",), ("gateway", "--help")])
def test_the_script_explains_itself(arguments: tuple[str, ...]) -> None:
    result = script(*arguments)
    assert result.returncode == 0
    assert "usage: scripts/benchmark.py" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--points", "unpaced-7"), "'unpaced-7' is none of"),
        (("--rounds", "0"), "0 is below 1"),
        (("--seconds", "-1"), "-1 is not above 0"),
        (("--seconds", "nan"), "nan is not above 0"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(arguments: tuple[str, ...], reason: str) -> None:
    result = script("gateway", *arguments)
    assert result.returncode == 2
    assert reason in result.stderr
