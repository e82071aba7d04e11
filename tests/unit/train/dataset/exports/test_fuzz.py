"""Whatever an input holds: nothing is raised, every row is a valid one, and the good conversations are all there."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.train.dataset.exports.samples import (
    ALPACA,
    GROUP,
    OPENAI,
    PERPLEXITY_PAGE,
    PERPLEXITY_THREAD,
    PERPLEXPORT,
    PPLXPORT,
    SHAREGPT,
    Json,
    chatgpt_chat,
    claude,
    events,
    openwebui,
    write,
    zipped,
)
from train.dataset.exports.problems import Problem
from train.dataset.rows import Row

SAMPLES: dict[str, Json] = {
    "chatgpt": chatgpt_chat(),
    "claude": claude(),
    "openwebui": openwebui(),
    "perplexity": PERPLEXITY_THREAD,
    "sharegpt": SHAREGPT,
    "alpaca": ALPACA,
    "openai": OPENAI,
    "groupqwen": GROUP | {"feedback": [{"choice": 0, "correction": "Paris."}]},
}
PAGES = [PERPLEXITY_PAGE, PERPLEXPORT, PPLXPORT]
CHATS = [chatgpt_chat(f"c{number}", said=f"Answer {number}.") for number in range(40)]

bounded = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def read(content: object, *, every_branch: bool = False) -> tuple[list[Row], list[Problem]]:
    """The events of a file of this content; each row is checked by its own rules once more."""
    with tempfile.TemporaryDirectory() as folder:
        rows, problems = events(write(Path(folder) / "f", content), every_branch=every_branch)
    for row in rows:
        assert Row.from_json(row.to_json()) == row
    return rows, problems


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside ``value``."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, inner in items for deeper in places(inner, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: object) -> Any:
    """``value`` with another value at ``path``."""
    if not path:
        return new
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return changed


@pytest.mark.parametrize("source", SAMPLES)
@given(data=st.data())
@bounded
def test_any_value_in_the_place_of_any_other_costs_that_conversation_at_most(
    source: str, data: st.DataObject
) -> None:
    sample = SAMPLES[source]
    path = data.draw(st.sampled_from(places(sample)))
    broken = replaced(sample, path, data.draw(anything))
    good = chatgpt_chat("good")
    rows, _ = read(json.dumps([good, broken, claude(id="good")]), every_branch=True)
    assert {"chatgpt:good", "claude:good"} <= {row.id for row in rows}


@given(start=st.integers(0, 30_000), removed=st.integers(0, 200), added=st.binary(max_size=40))
@bounded
def test_a_stretch_of_garbage_costs_what_it_touches_only(start: int, removed: int, added: bytes) -> None:
    encoded = [json.dumps(chat).encode() for chat in CHATS]
    whole = b"[" + b", ".join(encoded) + b"]"
    # The first bytes say what kind of file it is.
    start = 1 + start % (len(whole) - 1)
    end = min(start + removed, len(whole))
    rows, _ = read(whole[:start] + added + whole[end:])
    found = {row.id for row in rows}
    # A conversation and the comma and the blank before it.
    at, untouched = 1, set()
    for number, one in enumerate(encoded):
        if at + len(one) < start or at - 2 > end:
            untouched.add(f"chatgpt:c{number}")
        at += len(one) + 2
    # The one right behind the garbage may look like a part of what was broken.
    assert len(untouched - found) <= 1
    assert len(found) >= len(untouched) - 1


@given(end=st.integers(0, 10_000))
@bounded
def test_a_truncated_archive_gives_conversations_in_order_up_to_where_it_ends(end: int) -> None:
    whole = zipped({"user.json": {}, "conversations.json": CHATS})
    rows, problems = read(whole[: end % len(whole)])
    assert [row.id for row in rows] == [f"chatgpt:c{number}" for number in range(len(rows))]
    assert problems


@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=10))
@bounded
def test_an_archive_with_changed_bytes_raises_nothing(changes: list[tuple[int, int]]) -> None:
    data = bytearray(zipped({"a.json": CHATS[:10], "b.json": [claude()]}))
    for at, byte in changes:
        data[at % len(data)] = byte
    read(bytes(data))


@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"[", b"{", b'[{"mapping":', b"---\n"]),
)
@bounded
def test_random_bytes_raise_nothing_and_are_a_problem(data: bytes, prefix: bytes) -> None:
    rows, problems = read(prefix + data)
    assert rows == []
    assert problems or (prefix + data).strip(b"[], \t\r\n}") == b""


@pytest.mark.parametrize("page", PAGES)
@given(data=st.data())
@bounded
def test_a_changed_page_raises_nothing(page: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(page)))
    end = data.draw(st.integers(start, len(page)))
    read(page[:start] + data.draw(st.text(max_size=20)).encode("utf-8", "replace").decode() + page[end:])


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
@bounded
def test_every_text_comes_out_as_it_went_in_but_for_what_no_database_takes(texts: list[str]) -> None:
    turns = [{"role": role, "content": f"{text}."} for text in texts for role in ("user", "assistant")]
    (row,), _ = read(json.dumps([{"messages": turns}]))
    expected = [f"{text}.".replace("\x00", "\ufffd").strip("\n") for text in texts for _ in range(2)]
    assert [message.content for message in row.messages] == expected
