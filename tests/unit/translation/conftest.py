"""A group with the translation task and a model that translates by a rule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.tasks.group import TaskGroup, task_group
from tests.unit.translation.models import Speaker


@pytest.fixture
async def model() -> Speaker:
    return Speaker()


@pytest.fixture
async def group(tmp_path: Path, model: Speaker) -> AsyncIterator[TaskGroup]:
    async with task_group(tmp_path, "translation", model) as running:
        yield running
