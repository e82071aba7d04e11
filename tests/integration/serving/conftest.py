"""One Ray for all tests of serving; each test deploys what it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.group import Group, config, echo, gateway, running_group

PORT = 8011


@pytest.fixture(scope="session")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    home = tmp_path_factory.mktemp("home")
    # Room for one real model at a time beside the processes of the echo models.
    limit = {"GROUPQWEN_MEMORY_LIMIT": "1700MB"}
    with running_group(home, config(gateway(), echo("first"), port=PORT), **limit) as running:
        yield running
