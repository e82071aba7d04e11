"""What each key uses, summed and written now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from serve.gateway import usage as module
from serve.gateway.usage import UsageLedger
from serve.store import Store
from tests.unit.gateway.group import opened


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store."""
    found = await opened(tmp_path)
    yield found
    await found.close()


async def totals(store: Store) -> list[tuple[str, str, int, int, int]]:
    """Key, model, requests, prompt and completion tokens."""
    found = await store.usage.totals()
    return [(t.key_id, t.model, t.requests, t.prompt_tokens, t.completion_tokens) for t in found]


async def test_uses_are_summed_by_key_and_model(store: Store) -> None:
    ledger = UsageLedger(store)
    for key, model in (("k1", "a"), ("k1", "a"), ("k1", "b"), ("k2", "a")):
        ledger.add(key, model, 3, 5)
    assert await totals(store) == []
    await ledger.close()
    assert await totals(store) == [("k1", "a", 2, 6, 10), ("k1", "b", 1, 3, 5), ("k2", "a", 1, 3, 5)]


async def test_sums_are_written_every_few_seconds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)
    ledger = UsageLedger(store)
    ledger.add("k", "a", 1, 1)
    async with asyncio.timeout(20):
        while not await totals(store):
            await asyncio.sleep(0.01)
    ledger.add("k", "a", 1, 1)
    await ledger.close()
    assert await totals(store) == [("k", "a", 2, 2, 2)]


async def test_a_ledger_closed_with_nothing_new_writes_nothing_twice(store: Store) -> None:
    ledger = UsageLedger(store)
    ledger.add("k", "a", 1, 1)
    await ledger.close()
    await ledger.close()
    assert await totals(store) == [("k", "a", 1, 1, 1)]


async def test_sums_that_could_not_be_written_are_written_later_with_what_came_since(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)
    await store.close()
    ledger = UsageLedger(store)
    ledger.add("k", "a", 1, 2)
    async with asyncio.timeout(20):
        while "usage could not be written" not in caplog.text:
            await asyncio.sleep(0.01)
    ledger.add("k", "a", 3, 4)
    await store.open()
    await ledger.close()
    assert await totals(store) == [("k", "a", 2, 4, 6)]
