"""`scripts/start.sh --doctor` where nothing is installed yet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.group import ROOT


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it is cloned: no .venv."""
    folder = tmp_path_factory.mktemp("a checkout")
    for name in ("serve", "scripts", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def doctor(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, with no other package in reach."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(checkout / "scripts" / "start.sh"), "--doctor", *arguments],
        env={**environment, "PYTHON": sys.executable, "GROUPQWEN_HOME": str(checkout / "home")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_looks_at_what_is_there_and_names_the_packages_that_are_not(checkout: Path) -> None:
    result = doctor(checkout)
    assert result.returncode == 1, result.stderr
    lines = {
        line.split()[1]: line for line in result.stdout.splitlines() if line[:4].strip() in ("ok", "warn", "fix")
    }
    assert lines.keys() == {"Python", "compiler", "packages"}
    assert "llama-cpp-python" in lines["packages"]
    assert "scripts/setup.sh" in result.stdout


def test_it_leaves_an_empty_environment_and_nothing_else(checkout: Path) -> None:
    before = {path.name for path in checkout.iterdir()} - {".venv"}
    doctor(checkout, "configs/local.yaml")
    assert {path.name for path in checkout.iterdir()} - {".venv"} == before
    assert not list((checkout / ".venv").glob(".installed*"))
    installed = {path.name for path in (checkout / ".venv" / "lib").glob("python*/site-packages/*.dist-info")}
    assert all(name.startswith(("pip-", "setuptools-")) for name in installed)
