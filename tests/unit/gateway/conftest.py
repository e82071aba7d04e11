"""What tests of fine-tuning jobs share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from serve.gateway.fine_tuning import following
from serve.gateway.fine_tuning.programs import Ended
from tests.unit.gateway.jobs import Bench, bench


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, {"schedule": {"learning_rate": 1e-3, "max_steps": 5}}) as found:
        yield found


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What was published: publishing itself is not the runner's."""
    calls: list[tuple[str, ...]] = []

    async def run(module: str, *arguments: str) -> Ended:
        calls.append((module, *arguments))
        return Ended(0, b"", "")

    monkeypatch.setattr(following, "run_module", run)
    return calls
