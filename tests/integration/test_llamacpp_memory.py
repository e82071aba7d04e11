"""What a real model holds in memory, against what it was estimated to, and what is left when it is unloaded; and how
many threads it holds."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
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
from tests.llamacpp import chat, events_of, loaded

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


@dataclass(frozen=True)
class Round:
    """One load and unload, in bytes.

    Attributes:
        held: what the process held more while the model was there.
        left: what it held afterwards, in all.
    """

    held: int
    left: int


def rounds(settings: ModelSettings, count: int) -> list[Round]:
    """Load, use and unload a model ``count`` times in a process of its own, where nothing else was freed before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_rounds, settings, count).result()


def _rounds(settings: ModelSettings, count: int) -> list[Round]:
    return asyncio.run(_used(settings, count))


async def _used(settings: ModelSettings, count: int) -> list[Round]:
    found = []
    for _ in range(count):
        before = resident()
        handler = LlamaCppHandler(settings)
        await handler.load()
        await events_of(handler, chat(LONG, max_tokens=8))
        held = resident() - before
        await handler.unload()
        del handler
        return_memory()
        found.append(Round(held, resident()))
    return found


def test_the_estimate_is_within_15_percent_and_unloading_gives_it_back(settings: ModelSettings) -> None:
    # The first load also brings in the libraries.
    first, second, *rest = rounds(settings, 4)
    estimate = need_of(settings, path_of(settings)).model
    assert abs(second.held - estimate) < 0.15 * second.held, f"held {second.held}, estimated {estimate}"
    # The allocator may keep something once; what is not given back is there every time.
    assert min(one.left for one in (second, *rest)) - first.left < LEFT * second.held


def test_loading_again_and_again_does_not_grow(smollm2_settings: ModelSettings) -> None:
    _, second, *rest = rounds(with_engine(smollm2_settings, context=2048, slots=2), 7)
    left = [one.left for one in rest]
    assert min(left[2:]) - left[0] < LEFT * second.held, f"left {left} of {second.held}"


@pytest.mark.parametrize("engine", [{"context": 512, "slots": 1}, {"context": 2048, "slots": 16, "batch": 64}])
def test_the_estimate_follows_the_engines_settings(smollm2_settings: ModelSettings, engine: dict[str, Any]) -> None:
    settings = with_engine(smollm2_settings, **engine)
    held = rounds(settings, 2)[-1].held
    estimate = need_of(settings, path_of(settings)).model
    assert abs(held - estimate) < 0.15 * held, f"held {held}, estimated {estimate}"


def native_threads() -> int:
    """Threads of this process that Python did not start."""
    return psutil.Process().num_threads() - threading.active_count()


async def _computing_threads(settings: ModelSettings) -> int:
    before = native_threads()
    async with loaded(settings, context=256, slots=1, threads=2) as handler:
        await events_of(handler, chat("Hi", max_tokens=4))
        # Those of the thread that loaded the model end a moment after it.
        deadline = time.monotonic() + 10
        while native_threads() - before > 1 and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        return native_threads() - before


def _computing(settings: ModelSettings) -> int:
    return asyncio.run(_computing_threads(settings))


def test_no_thread_that_computed_once_keeps_others_waiting_beside_the_engines_own(
    smollm2_settings: ModelSettings,
) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        # The engine's thread is Python's, and computes too.
        assert process.submit(_computing, smollm2_settings).result() == 1
