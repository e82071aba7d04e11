"""Uploaded files in the store, on both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from serve.errors import InvalidRequest, NotFound
from serve.store import Conversation, FileRoom, Store, StoredFile, migrate
from serve.store import engine as engines

NOW = datetime(2026, 5, 17, 12, 30, 15, 123456, tzinfo=UTC)
ROOM = FileRoom(count=100, bytes=10**12)


def file(id: str = "file-1", **changes: Any) -> StoredFile:
    fields: dict[str, Any] = {
        "tenant": "local",
        "created_at": NOW,
        "filename": "chats שלום 👩.jsonl",
        "purpose": "fine-tune",
        "bytes": 5_000_000_000,
        "sha256": "ab" * 32,
        "validation": {"examples": 3, "roles": {"user": {"messages": 3}}},
    }
    return StoredFile(id=id, **(fields | changes))


async def ids(store: Store, **filters: Any) -> list[str]:
    return [one.id for one in (await store.files.list("local", **filters)).items]


async def test_a_file_comes_back_as_it_was_stored(store: Store) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    for stored in (file(), file("file-2", expires_at=soon, validation=None, bytes=0)):
        await store.files.add(stored, ROOM)
        assert await store.files.get(stored.id, "local") == stored


async def test_text_that_no_database_takes_is_cleaned(store: Store) -> None:
    await store.files.add(file(filename="a\x00b\ud800"), ROOM)
    assert (await store.files.get("file-1", "local")).filename == "a\ufffdb\ufffd"


async def test_a_tenant_sees_and_deletes_only_its_own(store: Store) -> None:
    await store.files.add(file(), ROOM)
    for call in (store.files.get("file-1", "other"), store.files.delete("file-1", "other")):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(NotFound) as raised:
        await store.files.list("other", after="file-1")
    assert raised.value.param == "after"
    assert (await store.files.list("other")).items == ()
    assert await ids(store) == ["file-1"]


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    for id in ("file-1", "", "\x00", "\ud800", "' OR 1=1 --", "x" * 100_000):
        with pytest.raises(NotFound):
            await store.files.get(id, "local")
        with pytest.raises(NotFound):
            await store.files.delete(id, "local")


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_show_each_file_once_in_order_and_by_purpose(store: Store, order: Any) -> None:
    names = [f"file-{number}" for number in range(7)]
    for name in names:
        await store.files.add(file(name, purpose="fine-tune" if name != "file-3" else "user_data"), ROOM)
    seen: list[str] = []
    after, more = None, True
    while more:
        page = await store.files.list("local", limit=2, after=after, order=order, purpose="fine-tune")
        seen += [one.id for one in page.items]
        after, more = seen[-1], page.has_more
    expected = [name for name in names if name != "file-3"]
    assert seen == (expected if order == "asc" else expected[::-1])
    assert await ids(store, purpose="user_data") == ["file-3"]


@pytest.mark.parametrize(("field", "value"), [("limit", 0), ("limit", 10_001), ("order", "up")])
async def test_an_impossible_page_is_refused_by_name(store: Store, field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await store.files.list("local", **{field: value})
    assert raised.value.param == field


async def test_a_tenant_without_room_is_refused_and_others_are_not(store: Store) -> None:
    for room, more in ((FileRoom(2, 10**12), 1), (FileRoom(9, 100), 41)):
        for number in range(2):
            await store.files.add(file(f"file-{number}", bytes=30), room)
        with pytest.raises(InvalidRequest) as raised:
            await store.files.add(file("file-9", bytes=more), room)
        assert (raised.value.code, raised.value.param) == ("quota_exceeded", "file")
        with pytest.raises(InvalidRequest):
            await store.files.check_room("local", more, room)
        await store.files.check_room("other", more, room)
        await store.files.add(file("file-8", tenant="other", bytes=more), room)
        for number in range(2):
            await store.files.delete(f"file-{number}", "local")
        await store.files.delete("file-8", "other")
    await store.files.check_room("local", 41, FileRoom(9, 100))


async def test_the_last_place_goes_to_one_of_many_uploads_at_once(store: Store, database_url: str) -> None:
    async with Store(database_url) as replica:
        calls = [
            (store, replica)[number % 2].files.add(file(f"file-{number}"), FileRoom(3, 10**12))
            for number in range(12)
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(result is None for result in results) == 3
    assert all(result is None or isinstance(result, InvalidRequest) for result in results)
    assert len(await ids(store)) == 3


async def test_an_expired_file_is_gone_and_takes_no_room(store: Store) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    await store.files.add(file("file-old", expires_at=past), FileRoom(1, 10**12))
    await store.files.add(file("file-new"), FileRoom(1, 10**12))
    with pytest.raises(NotFound):
        await store.files.get("file-old", "local")
    with pytest.raises(NotFound):
        await store.files.delete("file-old", "local")
    assert await ids(store) == ["file-new"]
    assert await store.files.expired() == ("file-old",)
    assert [await store.files.known(id) for id in ("file-old", "file-new", "file-none")] == [True, True, False]
    for _ in range(2):
        await store.files.drop("file-old")
    assert await store.files.expired() == ()
    assert [await store.files.known(id) for id in ("file-old", "file-new")] == [False, True]


async def test_a_database_of_the_first_schema_keeps_what_it_has(database_url: str) -> None:
    url = engines.parse(database_url)
    async with Store(database_url) as store:
        await store.conversations.add(Conversation("chatcmpl-1", "local", NOW, "m", {}, []))
        await store.files.add(file(), ROOM)
    migrate.downgrade(url, "0001")
    engine = sa.create_engine(database_url)
    assert "files" not in sa.inspect(engine).get_table_names()
    engine.dispose()
    async with Store(database_url) as store:
        assert (await store.conversations.get("chatcmpl-1", "local")).id == "chatcmpl-1"
        assert await ids(store) == []
