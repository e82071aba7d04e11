"""Stored conversations and the store's life, on both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from serve.errors import Conflict, InvalidRequest, NotFound
from serve.store import Conversation, Feedback, Store

NOW = datetime(2026, 5, 17, 12, 30, 15, 123456, tzinfo=UTC)


def conversation(id: str = "chatcmpl-1", **changes: Any) -> Conversation:
    fields: dict[str, Any] = {
        "tenant": "local",
        "created_at": NOW,
        "model": "qwen3-8b",
        "request": {"messages": [{"role": "user", "content": "Why is the sky blue?"}], "temperature": 0.7},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Rayleigh"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
    }
    return Conversation(id=id, **(fields | changes))


def answer(text: str) -> list[dict[str, Any]]:
    return [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]


async def ids(store: Store, **filters: Any) -> list[str]:
    page = await store.conversations.list("local", **filters)
    return [item.id for item in page.items]


async def test_a_conversation_comes_back_as_it_was_stored(store: Store) -> None:
    stored = conversation(metadata={"topic": "physics", "lang": "en"}, route="short question")
    await store.conversations.add(stored)
    assert await store.conversations.get("chatcmpl-1", "local") == stored


async def test_usage_and_route_may_be_absent(store: Store) -> None:
    stored = conversation(usage=None, route=None)
    await store.conversations.add(stored)
    assert await store.conversations.get("chatcmpl-1", "local") == stored


async def test_a_request_keeps_the_order_of_its_keys_and_the_form_of_its_numbers(store: Store) -> None:
    schema = {"zebra": 1e5, "a": 1.0, "long_name": 1, "b": 0.1}
    await store.conversations.add(conversation(request={"tools": [schema]}))
    found = (await store.conversations.get("chatcmpl-1", "local")).request
    assert repr(found) == repr({"tools": [schema]})


async def test_text_of_every_script_comes_back(store: Store) -> None:
    text = "שלום مرحبا 你好 नमस्ते 👩‍👩‍👧‍👦 e\u0301 \U0010ffff \u202e \\u0000 '\"\n\r\t\x7f"
    stored = conversation(choices=answer(text), metadata={text[:20]: text}, route=text, model=text)
    await store.conversations.add(stored)
    assert await store.conversations.get("chatcmpl-1", "local") == stored


async def test_nul_and_lone_surrogates_become_replacement_characters(store: Store) -> None:
    dirty, clean = "a\x00b\ud800c\udfff", "a\ufffdb\ufffdc\ufffd"
    await store.conversations.add(
        conversation(
            request={dirty: [dirty]}, choices=answer(dirty), metadata={dirty: dirty}, route=dirty, model=dirty
        )
    )
    assert await store.conversations.get("chatcmpl-1", "local") == conversation(
        request={clean: [clean]}, choices=answer(clean), metadata={clean: clean}, route=clean, model=clean
    )


async def test_numbers_that_json_lacks_become_null(store: Store) -> None:
    await store.conversations.add(conversation(choices=[{"index": 0, "logprobs": [float("-inf"), float("nan")]}]))
    found = await store.conversations.get("chatcmpl-1", "local")
    assert found.choices == [{"index": 0, "logprobs": [None, None]}]


async def test_a_message_of_five_megabytes_comes_back_whole(store: Store) -> None:
    text = "0123456789abcd 你" * (5_000_000 // 18)
    await store.conversations.add(conversation(choices=answer(text)))
    assert (await store.conversations.get("chatcmpl-1", "local")).choices == answer(text)


async def test_a_time_of_another_zone_comes_back_in_utc(store: Store) -> None:
    await store.conversations.add(conversation(created_at=NOW.astimezone(timezone(timedelta(hours=-9)))))
    found = (await store.conversations.get("chatcmpl-1", "local")).created_at
    assert (found, found.tzinfo) == (NOW, UTC)


async def test_json_nested_too_deeply_is_refused_and_not_stored(store: Store) -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"": deep}
    with pytest.raises(InvalidRequest) as raised:
        await store.conversations.add(conversation(request=deep))
    assert raised.value.param == "request"
    assert await ids(store) == []
    # Taken apart by hand: Python frees nested objects recursively.
    while deep:
        deep = deep[""]


async def test_a_taken_id_is_a_conflict_and_leaves_the_first(store: Store) -> None:
    await store.conversations.add(conversation())
    with pytest.raises(Conflict):
        await store.conversations.add(conversation(tenant="other", metadata={"a": "b"}))
    assert await store.conversations.get("chatcmpl-1", "local") == conversation()


async def test_twenty_tasks_store_at_once(store: Store) -> None:
    stored = [conversation(f"chatcmpl-{i:02}", metadata={"task": str(i)}) for i in range(20)]
    await asyncio.gather(*map(store.conversations.add, stored))
    page = await store.conversations.list("local", limit=20, order="asc")
    assert page.items == tuple(stored)
    assert not page.has_more


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    for id in ("chatcmpl-1", "", "\x00", "\ud800", "' OR 1=1 --", "x" * 100_000):
        with pytest.raises(NotFound):
            await store.conversations.get(id, "local")
        with pytest.raises(NotFound):
            await store.conversations.update_metadata(id, "local", {})
        with pytest.raises(NotFound):
            await store.conversations.delete(id, "local")


async def test_a_tenant_sees_and_changes_only_its_own(store: Store) -> None:
    mine = conversation(metadata={"a": "b"})
    await store.conversations.add(mine)
    with pytest.raises(NotFound):
        await store.conversations.get("chatcmpl-1", "other")
    with pytest.raises(NotFound):
        await store.conversations.update_metadata("chatcmpl-1", "other", {})
    with pytest.raises(NotFound):
        await store.conversations.delete("chatcmpl-1", "other")
    with pytest.raises(NotFound):
        await store.conversations.list("other", after="chatcmpl-1")
    assert (await store.conversations.list("other")).items == ()
    assert (await store.conversations.list("other", metadata={"a": "b"})).items == ()
    assert await store.conversations.get("chatcmpl-1", "local") == mine


async def test_the_newest_come_first_unless_asked_otherwise(store: Store) -> None:
    for minutes, id in enumerate(["c", "a", "b"]):
        await store.conversations.add(conversation(id, created_at=NOW + timedelta(minutes=minutes)))
    assert await ids(store) == ["b", "a", "c"]
    assert await ids(store, order="asc") == ["c", "a", "b"]


async def test_an_empty_list_has_no_more(store: Store) -> None:
    page = await store.conversations.list("local")
    assert (page.items, page.has_more) == ((), False)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 3, 4, 100])
async def test_pages_of_equal_times_show_each_item_once_in_order(store: Store, order: Any, limit: int) -> None:
    names = ["B", "a", "Z", "z", "ä", "_", "1", "10", "9", "-", "é", "\U0001f600", "\uffee"]
    for name in names:
        await store.conversations.add(conversation(name))
    seen: list[str] = []
    after, more = None, True
    while more:
        page = await store.conversations.list("local", limit=limit, after=after, order=order)
        seen += [item.id for item in page.items]
        after, more = seen[-1], page.has_more
    assert seen == sorted(names, reverse=order == "desc")


async def test_a_conversation_added_between_pages_does_not_repeat_or_hide_others(store: Store) -> None:
    for id in ("a", "b", "c", "d"):
        await store.conversations.add(conversation(id))
    first = await ids(store, limit=2, order="asc")
    await store.conversations.add(conversation("0"))
    await store.conversations.delete("a", "local")
    assert first + await ids(store, limit=2, order="asc", after=first[-1]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("field", "value"), [("limit", 0), ("limit", 101), ("limit", -1), ("order", "up")])
async def test_an_impossible_page_is_refused_by_name(store: Store, field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await store.conversations.list("local", **{field: value})
    assert raised.value.param == field


async def test_an_unknown_cursor_is_not_found_by_name(store: Store) -> None:
    with pytest.raises(NotFound) as raised:
        await store.conversations.list("local", after="gone")
    assert raised.value.param == "after"


async def test_the_list_filters_by_model_and_by_every_pair_of_metadata(store: Store) -> None:
    await store.conversations.add(conversation("1", metadata={"a": "x", "b": "y"}))
    await store.conversations.add(conversation("2", metadata={"a": "x", "b": "z"}, model="other"))
    await store.conversations.add(conversation("3", metadata={"b": "x", "a": "y"}))
    assert await ids(store, metadata={"a": "x"}, order="asc") == ["1", "2"]
    assert await ids(store, metadata={"a": "x", "b": "y"}) == ["1"]
    assert await ids(store, metadata={"a": "x"}, model="other") == ["2"]
    assert await ids(store, model="none") == []
    assert await ids(store, metadata={"a": "%"}) == []


async def test_filtered_pages_go_on_from_their_cursor(store: Store) -> None:
    for number in range(6):
        await store.conversations.add(conversation(str(number), metadata={"even": str(number % 2 == 0)}))
    page = await store.conversations.list("local", metadata={"even": "True"}, limit=2, order="asc")
    assert ([item.id for item in page.items], page.has_more) == (["0", "2"], True)
    assert await ids(store, metadata={"even": "True"}, limit=2, order="asc", after="2") == ["4"]


async def test_the_largest_metadata_is_stored_and_found(store: Store) -> None:
    # Code points of four bytes that do not compress: PostgreSQL's index rows have at most 2704 bytes.
    pairs = {
        "".join(chr(0x20000 + (pair * 7919 + i * 613) % 40000) for i in range(64)): "".join(
            chr(0x20000 + (pair * 104729 + i * i * 31 + i * 7877) % 40000) for i in range(512)
        )
        for pair in range(16)
    }
    await store.conversations.add(conversation(metadata=pairs))
    assert (await store.conversations.get("chatcmpl-1", "local")).metadata == pairs
    assert await ids(store, metadata=pairs) == ["chatcmpl-1"]


async def test_an_update_replaces_the_whole_metadata_and_nothing_else(store: Store) -> None:
    await store.conversations.add(conversation(metadata={"keep": "1", "change": "2", "drop": "3"}))
    expected = conversation(metadata={"keep": "1", "change": "changed", "new": "4"})
    assert await store.conversations.update_metadata("chatcmpl-1", "local", expected.metadata) == expected
    assert await store.conversations.get("chatcmpl-1", "local") == expected
    assert await ids(store, metadata={"drop": "3"}) == []


async def test_updates_at_once_leave_the_metadata_of_one_of_them(store: Store) -> None:
    await store.conversations.add(conversation(metadata={"a": "start"}))
    wanted = [{"a": str(i), "b": str(i)} for i in range(12)]
    await asyncio.gather(*(store.conversations.update_metadata("chatcmpl-1", "local", pairs) for pairs in wanted))
    assert (await store.conversations.get("chatcmpl-1", "local")).metadata in wanted


async def test_metadata_beyond_the_limits_is_refused_and_leaves_the_old(store: Store) -> None:
    await store.conversations.add(conversation(metadata={"a": "b"}))
    with pytest.raises(InvalidRequest):
        await store.conversations.update_metadata("chatcmpl-1", "local", {"a": "x" * 513})
    assert (await store.conversations.get("chatcmpl-1", "local")).metadata == {"a": "b"}


async def test_a_deleted_conversation_takes_its_metadata_and_feedback_along(store: Store) -> None:
    await store.conversations.add(conversation(metadata={"a": "b"}))
    await store.feedback.add(Feedback("fb-1", "chatcmpl-1", "local", NOW, rating="up"))
    await store.conversations.delete("chatcmpl-1", "local")
    with pytest.raises(NotFound):
        await store.conversations.get("chatcmpl-1", "local")
    await store.conversations.add(conversation())
    assert await store.feedback.list("chatcmpl-1", "local") == ()
    assert await ids(store, metadata={"a": "b"}) == []
