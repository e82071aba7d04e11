"""The folder of what runs now."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.launch.run_folder import RunFolder, Running, is_ray
from serve.settings.environment import SERVE_FLAGS, Environment

SLEEP = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with everything in its name that a shell could trip over."""
    return tmp_path / "a home with 'quotes', \"more\" & $HOME"


@pytest.fixture
def folder(home: Path) -> RunFolder:
    """A fresh run folder."""
    return made(home)


def made(home: Path) -> RunFolder:
    """The run folder of a home."""
    return RunFolder(Environment.read({"GROUPQWEN_HOME": str(home)}))


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def running(*command: str) -> Iterator[int]:
    """The number of a process that runs, once it has said so: until then its command line may be empty."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"up\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@contextmanager
def ray_start(folder: Path) -> Iterator[int]:
    """The number of a process that looks like `ray start`."""
    program = folder / "ray"
    program.write_text(SLEEP)
    with running(sys.executable, str(program), "start", "--head") as pid:
        yield pid


def test_the_folder_and_its_secrets_are_their_owners_only(home: Path) -> None:
    (home / "run").mkdir(parents=True, mode=0o755)
    folder = made(home)
    folder.variables()
    folder.write_env_file()
    folder.remember(Running(1, 8000))
    assert mode(folder.path) == 0o700
    for name in ("ray_token", "internal_token", "env", "running.json"):
        assert mode(folder.path / name) == 0o600, name


def test_secrets_are_made_once_and_differ(folder: RunFolder, home: Path) -> None:
    first = folder.variables()
    token = Path(first["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert made(home).variables() == first
    assert len(token) == len(first["GROUPQWEN_INTERNAL_TOKEN"]) == 64
    assert token != first["GROUPQWEN_INTERNAL_TOKEN"]


def test_everything_that_ray_must_find_is_there(
    folder: RunFolder, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SERVE_FLAGS:
        monkeypatch.delenv(name, raising=False)
    found = folder.variables()
    assert found.items() >= SERVE_FLAGS.items()
    assert (found["GROUPQWEN_HOME"], found["RAY_AUTH_MODE"]) == (str(home), "token")
    assert found["RAY_ADDRESS"].startswith("127.0.0.1:")


def test_a_flag_that_the_user_has_set_is_kept(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_NBTHREAD", "7")
    assert folder.variables()["RAY_SERVE_HAPROXY_NBTHREAD"] == "7"


def test_a_process_of_the_group_has_its_variables_and_its_programs_first(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "kept")
    found = folder.process_environment()
    assert found.items() >= folder.variables().items()
    assert found["SOME_VARIABLE"] == "kept"
    assert found["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_a_shell_that_reads_the_file_has_the_variables_as_they_are(folder: RunFolder) -> None:
    folder.write_env_file()
    run = subprocess.run(
        ["sh", "-c", '. "$1"; env -0', "sh", str(folder.env_file)],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    found = dict(entry.split("=", 1) for entry in run.stdout.decode().split("\0") if entry)
    assert found.items() >= folder.variables().items()
    assert found["PATH"] == f"{Path(sys.executable).parent}:/usr/bin:/bin"


def test_nothing_runs_in_a_fresh_folder(folder: RunFolder) -> None:
    assert folder.read() is None
    folder.forget()


def test_what_runs_is_remembered_while_it_runs_and_forgotten_after(
    folder: RunFolder, home: Path, tmp_path: Path
) -> None:
    with ray_start(tmp_path) as pid:
        folder.remember(Running(pid, 8123))
        assert made(home).read() == Running(pid, 8123)
    assert made(home).read() is None
    assert not (folder.path / "running.json").exists()


def test_what_was_forgotten_does_not_run(folder: RunFolder, tmp_path: Path) -> None:
    with ray_start(tmp_path) as pid:
        folder.remember(Running(pid, 8123))
        folder.forget()
        assert folder.read() is None


@pytest.mark.parametrize("words", [["array", "start"], ["x-ray", "start"], ["ray"], ["/data/ray/start.txt"], []])
def test_another_process_that_got_the_number_is_not_taken_for_ray(words: list[str]) -> None:
    with running(sys.executable, "-c", SLEEP, *words) as pid:
        assert not is_ray(pid)


def test_a_process_that_has_ended_and_was_not_waited_for_does_not_run(tmp_path: Path) -> None:
    with ray_start(tmp_path) as pid:
        assert is_ray(pid)
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not is_ray(pid)


def test_a_number_that_no_process_has_is_not_ray() -> None:
    assert not is_ray(2**22 + 1)
