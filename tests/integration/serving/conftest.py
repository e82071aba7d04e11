"""One Ray for all tests of serving, stopped after them: idle, it takes a third of a processor.

Each test deploys what it needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.group import Group, config, echo, gateway, running_group

PORT = 8011


@pytest.fixture(scope="package")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    home = tmp_path_factory.mktemp("home")
    # Room for the largest model of the tests, and not for two that test_residency.py lets take turns.
    limit = {"GROUPQWEN_MEMORY_LIMIT": "2600MB"}
    with running_group(home, config(gateway(), echo("first"), port=PORT), **limit) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def no_adapters_left(group: Group) -> Iterator[None]:
    """What a module publishes is not there for the next one."""
    yield
    shutil.rmtree(group.folder.path.parent / "adapters", ignore_errors=True)
