"""Rivals live in virtual environments of their own, below the group's home: none changes another's packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.processes import say
from serve.settings.environment import Environment

#: Some rivals are built from source.
_INSTALL_SECONDS = 3600


def installed(
    name: str, requirement: str, variables: Mapping[str, str] | None = None, python: str = sys.executable
) -> Path:
    """The ``bin`` folder of the environment ``name`` that has ``requirement``; it is made when it is not there.

    Args:
        variables: what the installation needs in its process environment besides what there is.
        python: the interpreter of the environment.

    Raises:
        BenchmarkError: it could not be installed.
    """
    home = Environment.read().home / "benchmarks" / name
    stamp = home / "installed"
    if not (stamp.exists() and stamp.read_text(encoding="utf-8") == requirement):
        say(f"installing {requirement} into {home}")
        home.mkdir(parents=True, exist_ok=True)
        commands = (
            [python, "-m", "venv", str(home)],
            [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement],
        )
        for command in commands:
            _run(name, command, {**os.environ, **(variables or {})})
        stamp.write_text(requirement, encoding="utf-8")
    return home / "bin"


def _run(name: str, command: list[str], environment: Mapping[str, str]) -> None:
    try:
        result = subprocess.run(
            command, stdout=sys.stderr, stderr=sys.stderr, check=False, timeout=_INSTALL_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired as late:
        raise BenchmarkError(f"the installation of {name} takes longer than {late.timeout:.0f} s") from late
    if result.returncode != 0:
        raise BenchmarkError(f"{name} could not be installed; --no-rival measures without it")
