"""What a real model holds in memory, against what it was estimated to, and what is left when it is unloaded."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import psutil
import pytest

from serve.handlers.llamacpp.handler import LlamaCppHandler
from serve.models import local_path
from serve.residency.need import need_of
from serve.residency.resident import return_memory
from serve.settings.engines import LlamaCppEngine
from serve.settings.model import ModelSettings
from tests.llamacpp import chat, events_of

#: What an unload may leave behind, of what the model held: the allocator's odds and ends.
LEFT = 0.05
LONG = "Tell me about the sea and the mountains. " * 40


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def with_engine(settings: ModelSettings, **engine: Any) -> ModelSettings:
    return settings.model_copy(update={"engine": LlamaCppEngine(**engine)})


@pytest.fixture(params=["smollm2", "qwen"])
def settings(request: pytest.FixtureRequest) -> ModelSettings:
    """Both real models with the engines of the default config."""
    found: ModelSettings = request.getfixturevalue(f"{request.param}_settings")
    return found


def path_of(settings: ModelSettings) -> Path:
    assert settings.weights is not None
    return local_path(settings.id, settings.weights)


async def used(settings: ModelSettings) -> int:
    """Load a model, use it, and unload it; gives the bytes that it took."""
    before = resident()
    handler = LlamaCppHandler(settings)
    await handler.load()
    await events_of(handler, chat(LONG, max_tokens=8))
    held = resident() - before
    await handler.unload()
    del handler
    return_memory()
    return held


async def test_the_estimate_is_within_15_percent_and_unloading_gives_it_back(settings: ModelSettings) -> None:
    # The first load also brings in the libraries.
    await used(settings)
    before = resident()
    held = await used(settings)
    estimate = need_of(settings, path_of(settings)).model
    assert abs(held - estimate) < 0.15 * held, f"held {held}, estimated {estimate}"
    assert resident() - before < LEFT * held


async def test_loading_again_and_again_does_not_grow(smollm2_settings: ModelSettings) -> None:
    settings = with_engine(smollm2_settings, context=2048, slots=2)
    held = await used(settings)
    await used(settings)
    left = []
    for _ in range(5):
        await used(settings)
        left.append(resident())
    assert max(left) - left[0] < LEFT * held, f"left {left} of {held}"


@pytest.mark.parametrize("engine", [{"context": 512, "slots": 1}, {"context": 2048, "slots": 16, "batch": 64}])
async def test_the_estimate_follows_the_engines_settings(
    smollm2_settings: ModelSettings, engine: dict[str, Any]
) -> None:
    settings = with_engine(smollm2_settings, **engine)
    await used(settings)
    held = await used(settings)
    estimate = need_of(settings, path_of(settings)).model
    assert abs(held - estimate) < 0.15 * held, f"held {held}, estimated {estimate}"
