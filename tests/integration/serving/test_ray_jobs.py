"""The client of Ray's Job API on a real Ray, with small programs in the place of a training."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serve.launch.run_folder import DASHBOARD_PORT, RAY_PORT
from tests.group import Group
from train.jobs import JobsUnreachable, Look, RayJobs

ADDRESSES = (f"http://127.0.0.1:{DASHBOARD_PORT}", f"127.0.0.1:{RAY_PORT}")


class Elsewhere:
    """The client in a process of its own: whether Ray asks for a token is settled when it is first imported."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor

    def submit(self, name: str, command: list[str]) -> None:
        self._executor.submit(call, "submit", name, command).result()

    def look(self, name: str) -> Look | None:
        found: Look | None = self._executor.submit(call, "look", name).result()
        return found

    def stop(self, name: str) -> None:
        self._executor.submit(call, "stop", name).result()

    def log(self, name: str) -> str:
        return str(self._executor.submit(call, "log", name).result())


@pytest.fixture(scope="module")
def jobs(group: Group) -> Iterator[Elsewhere]:
    """The Job API of the group's Ray."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in group.folder.variables().items():
            patch.setenv(name, value)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            yield Elsewhere(executor)


def call(method: str, *arguments: Any) -> Any:
    return getattr(RayJobs(*ADDRESSES), method)(*arguments)


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def until(jobs: Elsewhere, name: str, holds: Callable[[Look], bool]) -> Look:
    deadline = time.monotonic() + 60
    while True:
        look = jobs.look(name)
        if look is not None and holds(look):
            return look
        assert time.monotonic() < deadline, look
        time.sleep(0.1)


def ended(jobs: Elsewhere, name: str) -> Look:
    return until(jobs, name, lambda look: look.ended)


def test_a_program_is_started_once_and_says_how_it_ended(jobs: Elsewhere, tmp_path: Path) -> None:
    count = tmp_path / "count with 'quotes'"
    code = f"import train.jobs; open({str(count)!r}, 'a').write('x'); print('שלום 👩')"
    for _ in range(2):
        jobs.submit("once", program(code))
    assert ended(jobs, "once") == Look("succeeded", "Job finished successfully.", 0)
    jobs.submit("once", program(code))
    assert count.read_text() == "x"
    assert "שלום 👩\n" in jobs.log("once")


def test_a_program_finds_the_cluster_that_it_runs_on(jobs: Elsewhere) -> None:
    jobs.submit("finds", program("import os, ray; ray.init(); print('at', os.environ['RAY_ADDRESS'])"))
    assert ended(jobs, "finds").status == "succeeded", jobs.log("finds")
    assert f"at {ADDRESSES[1]}\n" in jobs.log("finds")


def test_a_failure_has_its_exit_code_and_a_killed_program_none_of_its_own(jobs: Elsewhere) -> None:
    jobs.submit("fails", program("raise SystemExit(2)"))
    jobs.submit("killed", program("import os; os.kill(os.getpid(), 9)"))
    assert (ended(jobs, "fails").status, ended(jobs, "fails").exit_code) == ("failed", 2)
    killed = ended(jobs, "killed")
    assert killed.status == "failed" and killed.exit_code not in (0, 1, 2)


def test_a_program_is_stopped_also_one_that_does_not_want_to(jobs: Elsewhere) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: None); print('on', flush=True)\n"
    jobs.submit("stopped", program(stubborn + "while True: time.sleep(0.1)"))
    until(jobs, "stopped", lambda _: "on" in jobs.log("stopped").splitlines())
    for _ in range(2):
        jobs.stop("stopped")
    assert ended(jobs, "stopped").status == "stopped"


def test_a_job_that_is_not_there_is_none(jobs: Elsewhere) -> None:
    assert jobs.look("nobody") is None
    assert jobs.log("nobody") == ""
    jobs.stop("nobody")


def test_a_cluster_that_is_not_there_is_unreachable() -> None:
    nowhere = RayJobs("http://127.0.0.1:9", "127.0.0.1:9")
    for method, arguments in (("look", ("x",)), ("submit", ("x", ["true"])), ("stop", ("x",)), ("log", ("x",))):
        with pytest.raises(JobsUnreachable):
            getattr(nowhere, method)(*arguments)
