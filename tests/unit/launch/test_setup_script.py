"""What ``scripts/setup.sh`` does with llama.cpp, with a Python that only notes how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

#: Exit codes of the probe are taken from a file, one a call; 139 is how a shell tells of signal 11.
PYTHON = """#!/usr/bin/env bash
echo "${CXXFLAGS:-none} $*" >> calls
case "$*" in
    "-m serve.devices.llama_probe") read -r code < probes; tail -n +2 probes > rest; mv rest probes; exit "$code" ;;
    "-c import gguf, numpy") exit "$(cat imports)" ;;
esac
"""

Setup = Callable[..., tuple[subprocess.CompletedProcess[str], list[str]]]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Runs the script in a project whose path has a blank; gives the result and the calls of pip that build."""
    project = tmp_path / "a project"
    (project / "scripts").mkdir(parents=True)
    (project / ".venv/bin").mkdir(parents=True)
    for name in ("scripts/setup.sh", "scripts/amx_tiles.h", "pyproject.toml", "constraints-test.txt"):
        shutil.copy(ROOT / name, project / name)
    python = project / ".venv/bin/python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    environment = {name: value for name, value in os.environ.items() if name != "CXXFLAGS"}

    def run(
        *arguments: str, probes: tuple[int, ...] = (), imports: int = 0
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        (project / "probes").write_text("".join(f"{code}\n" for code in probes))
        (project / "imports").write_text(str(imports))
        command = ["bash", "scripts/setup.sh", *arguments]
        result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=environment)
        assert not (project / "probes").read_text()
        calls = (project / "calls").read_text().splitlines()
        return result, [call for call in calls if "llama-cpp-python" in call]

    return run


def test_only_the_build_of_llama_cpp_is_told_of_the_header(setup: Setup, tmp_path: Path) -> None:
    result, builds = setup(probes=(0,))
    assert result.returncode == 0
    header = tmp_path / "a project/scripts/amx_tiles.h"
    assert [build.startswith(f"-include '{header}'") for build in builds] == [True]
    others = [line for line in (tmp_path / "a project/calls").read_text().splitlines() if line not in builds]
    assert others
    assert all(line.startswith("none ") for line in others)


def test_a_llama_cpp_that_ends_its_process_is_built_anew_once(setup: Setup) -> None:
    result, builds = setup(probes=(139, 0))
    assert result.returncode == 0
    assert "--force-reinstall" not in builds[0]
    assert "--force-reinstall" in builds[1]
    assert "--no-binary llama-cpp-python" in builds[1]
    # It has run here and is not tried again.
    result, builds = setup()
    assert (result.stdout, len(builds)) == ("", 2)


def test_one_that_still_ends_its_process_is_warned_of_and_the_group_may_start(setup: Setup) -> None:
    result, builds = setup(probes=(139, 139))
    assert (result.returncode, len(builds)) == (0, 2)
    assert "docs/troubleshooting.md" in result.stderr
    assert "docs/troubleshooting.md" in setup(probes=(139, 139))[0].stderr


def test_one_that_came_to_another_processor_is_tried_there(setup: Setup, tmp_path: Path) -> None:
    setup(probes=(0,))
    (tmp_path / "a project/.venv/.tried-llama").write_text("another's")
    result, builds = setup(probes=(132, 0))
    assert (result.returncode, len(builds)) == (0, 2)


@pytest.mark.parametrize("code", [1, 134, 137, 255])
def test_one_that_fails_for_another_reason_is_not_built_anew(setup: Setup, code: int) -> None:
    result, builds = setup(probes=(code,))
    assert (result.returncode, len(builds), result.stderr) == (0, 1, "")


@pytest.mark.parametrize("code", [0, 1, 139])
def test_a_build_by_hand_ends_as_its_trial_does(setup: Setup, code: int) -> None:
    result, builds = setup("--llama", probes=(code,))
    assert (result.returncode, len(builds)) == (code, 1)


def test_a_build_by_hand_needs_what_it_is_tried_with(setup: Setup) -> None:
    result, builds = setup("--llama", imports=1)
    assert (result.returncode, builds) == (1, [])
    assert result.stderr == "error: nothing is installed yet; scripts/setup.sh builds llama.cpp too\n"
