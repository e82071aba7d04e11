"""One Ray for all tests of serving; each test deploys what it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.group import Group, config, echo, gateway, running_group

PORT = 8011


@pytest.fixture(scope="session")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    home = tmp_path_factory.mktemp("home")
    with running_group(home, config(gateway(), echo("first"), port=PORT)) as running:
        yield running
