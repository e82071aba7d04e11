"""API keys and usage, on both databases."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from serve.errors import InvalidRequest, NotFound
from serve.store import Scope, Store, UsageRecord, UsageTotal

DAY = datetime(2026, 5, 17, 12, tzinfo=UTC)
TOMORROW = timedelta(days=1)


async def test_a_key_is_found_by_its_secret(store: Store) -> None:
    until = datetime.now(UTC) + TOMORROW
    new = await store.keys.create("page 你好", ["inference", "admin"], 60, 10_000, until)
    found = await store.keys.find(new.secret)
    assert found == new.key
    assert found.name == "page 你好"
    assert found.scopes == {Scope.INFERENCE, Scope.ADMIN}
    assert (found.requests_per_minute, found.tokens_per_minute, found.expires_at) == (60, 10_000, until)


async def test_a_secret_has_256_random_bits_and_its_prefix_shows(store: Store) -> None:
    made = [await store.keys.create("a", ["inference"], None, None) for _ in range(5)]
    assert len({new.secret for new in made}) == len({new.key.id for new in made}) == 5
    for new in made:
        assert new.secret.startswith("gq-") and len(new.secret) == 3 + 43
        assert new.secret.startswith(new.key.prefix) and len(new.key.prefix) == 8


async def test_the_database_holds_no_secret_but_its_hash(store: Store, database_url: str) -> None:
    new = await store.keys.create("a", ["inference"], None, None)
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        (row,) = connection.execute(sa.text("SELECT * FROM api_keys")).mappings().all()
    engine.dispose()
    assert new.secret not in str(dict(row))
    assert row["hash"] == hashlib.sha256(new.secret.encode()).hexdigest()


async def test_no_repr_shows_a_secret(store: Store) -> None:
    new = await store.keys.create("a", ["inference"], None, None)
    found = await store.keys.find(new.secret)
    for shown in (repr(new), str(new), repr(found), repr(store), repr(await store.keys.list())):
        assert new.secret not in shown
        assert hashlib.sha256(new.secret.encode()).hexdigest() not in shown


@pytest.mark.parametrize("wrong", ["", "gq-", "gq-unknown", "\x00", "\ud800", "ключ", "x" * 1_000_000])
async def test_a_wrong_secret_finds_nothing(store: Store, wrong: str) -> None:
    new = await store.keys.create("a", ["inference"], None, None)
    assert await store.keys.find(wrong) is None
    assert await store.keys.find(new.secret + wrong + " ") is None
    assert await store.keys.find(new.secret[:-1]) is None


async def test_a_revoked_key_is_not_found_but_listed(store: Store) -> None:
    new = await store.keys.create("a", ["inference"], None, None)
    revoked = await store.keys.revoke(new.key.id)
    assert revoked.revoked_at is not None
    assert await store.keys.find(new.secret) is None
    assert await store.keys.list() == (revoked,)


async def test_revoking_twice_keeps_the_first_time(store: Store) -> None:
    new = await store.keys.create("a", ["inference"], None, None)
    first = await store.keys.revoke(new.key.id)
    assert await store.keys.revoke(new.key.id) == first


async def test_revoking_an_unknown_key_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.keys.revoke("key_\x00")


async def test_an_expired_key_is_not_found_and_does_not_count(store: Store) -> None:
    until = datetime.now(UTC) + timedelta(milliseconds=300)
    new = await store.keys.create("a", ["inference"], None, None, until)
    while datetime.now(UTC) <= until:
        time.sleep(0.05)
    assert await store.keys.find(new.secret) is None
    assert await store.keys.count() == 0
    assert await store.keys.list() == (new.key,)


async def test_only_valid_keys_count(store: Store) -> None:
    assert await store.keys.count() == 0
    await store.keys.create("a", ["inference"], None, None)
    await store.keys.create("b", ["inference"], None, None, datetime.now(UTC) + TOMORROW)
    revoked = await store.keys.create("c", ["inference"], None, None)
    await store.keys.revoke(revoked.key.id)
    assert await store.keys.count() == 2


async def test_keys_are_listed_oldest_first(store: Store) -> None:
    made = [(await store.keys.create(name, ["inference"], None, None)).key for name in "cab"]
    assert await store.keys.list() == tuple(made)


@pytest.mark.parametrize(
    ("param", "change"),
    [
        ("name", {"name": ""}),
        ("name", {"name": " \n"}),
        ("name", {"name": "x" * 201}),
        ("scopes", {"scopes": []}),
        ("scopes", {"scopes": ["inference", "root"]}),
        ("scopes", {"scopes": [""]}),
        ("requests_per_minute", {"requests_per_minute": 0}),
        ("requests_per_minute", {"requests_per_minute": 2**31}),
        ("tokens_per_minute", {"tokens_per_minute": -1}),
        ("expires_at", {"expires_at": DAY - timedelta(days=10_000)}),
    ],
)
async def test_an_impossible_key_is_refused_by_name(store: Store, param: str, change: dict[str, Any]) -> None:
    wish = {"name": "a", "scopes": ["inference"], "requests_per_minute": None, "tokens_per_minute": None} | change
    with pytest.raises(InvalidRequest) as raised:
        await store.keys.create(**wish)
    assert raised.value.param == param
    assert await store.keys.list() == ()


async def test_usage_is_summed_for_each_key_and_model(store: Store) -> None:
    await store.usage.add(
        [
            UsageRecord("key_1", "small", DAY, 10, 1),
            UsageRecord("key_1", "small", DAY, 20, 2),
            UsageRecord("key_1", "large", DAY, 5, 5),
            UsageRecord("local", "small", DAY, 7, 7, requests=3),
        ]
    )
    await store.usage.add([UsageRecord("key_1", "small", DAY + TOMORROW, 100, 10)])
    large, small = UsageTotal("key_1", "large", 1, 5, 5), UsageTotal("key_1", "small", 3, 130, 13)
    assert await store.usage.totals() == (large, small, UsageTotal("local", "small", 3, 7, 7))
    assert await store.usage.totals("key_1") == (large, small)
    assert await store.usage.totals("nobody") == ()


async def test_usage_totals_begin_with_a_day(store: Store) -> None:
    for days in range(3):
        await store.usage.add([UsageRecord("key_1", "small", DAY + days * TOMORROW, 1, 10**days)])
    assert await store.usage.totals(since=date(2026, 5, 18)) == (UsageTotal("key_1", "small", 2, 2, 110),)
    assert await store.usage.totals(since=date(2026, 5, 20)) == ()


async def test_the_day_of_usage_is_that_of_utc(store: Store) -> None:
    late_in_tokyo = datetime(2026, 5, 18, 8, tzinfo=timezone(timedelta(hours=9)))
    await store.usage.add([UsageRecord("key_1", "small", late_in_tokyo, 1, 1)])
    assert await store.usage.totals(since=date(2026, 5, 18)) == ()
    assert len(await store.usage.totals(since=date(2026, 5, 17))) == 1


async def test_an_empty_batch_adds_nothing(store: Store) -> None:
    await store.usage.add([])
    assert await store.usage.totals() == ()


async def test_sums_beyond_32_bits_are_exact(store: Store) -> None:
    for _ in range(3):
        await store.usage.add([UsageRecord("key_1", "small", DAY, 2**40, 2**53 + 1)])
    assert await store.usage.totals() == (UsageTotal("key_1", "small", 3, 3 * 2**40, 3 * (2**53 + 1)),)


async def test_usage_from_many_threads_of_two_stores_sums_exactly(store: Store, database_url: str) -> None:
    models = ["a", "b", "c", "d"]
    async with Store(database_url) as second:
        # Batches that name the same rows in opposite orders, which could deadlock.
        batches = [
            [UsageRecord("key_1", model, DAY, 1, number) for model in models[:: 1 if number % 2 else -1]]
            for number in range(100)
        ]
        await asyncio.gather(*((store, second)[i % 2].usage.add(batch) for i, batch in enumerate(batches)))
    assert await store.usage.totals() == tuple(UsageTotal("key_1", model, 100, 100, 4950) for model in models)
