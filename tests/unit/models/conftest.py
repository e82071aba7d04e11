"""Fixtures of the tests of ``serve.models``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.models.sources import retry
from tests.unit.models.files import CONTENT
from tests.unit.models.web import Site, serving


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of all models; not there yet."""
    return tmp_path / "models"


@pytest.fixture
def site() -> Iterator[Site]:
    """A server of the right file."""
    with serving(Site(CONTENT)) as running:
        yield running


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no waiting between tries."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(retry, "_BACKOFF_SECONDS", 0.0)
