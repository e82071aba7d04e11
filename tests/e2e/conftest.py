"""The group as a new user starts it: `scripts/start.sh` with its default config, on real models."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.launch.run_folder import RunFolder
from serve.settings.environment import Environment
from tests.group import ROOT, Group

PORT = 8000


def script(
    name: str, *arguments: str, environment: dict[str, str], seconds: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run one of the project's scripts as a user does."""
    return subprocess.run(
        [str(ROOT / "scripts" / name), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GROUPQWEN_HOME of its own; the models, which are large, are shared with the user's."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def environment(home: Path) -> dict[str, str]:
    """The environment of the scripts."""
    models = str(Environment.read().models_dir)
    return {**os.environ, "GROUPQWEN_HOME": str(home), "GROUPQWEN_MODELS_DIR": models}


@pytest.fixture(scope="session")
def started(environment: dict[str, str]) -> Iterator[str]:
    """What `scripts/start.sh` printed; stopped at the end by `scripts/stop.sh`."""
    done = script("start.sh", environment=environment)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield done.stdout
    finally:
        stopped = script("stop.sh", environment=environment)
        assert stopped.returncode == 0, stopped.stderr


@pytest.fixture(scope="session")
def group(started: str, environment: dict[str, str]) -> Group:
    """The running group."""
    return Group(RunFolder(Environment.read(environment)), PORT)
