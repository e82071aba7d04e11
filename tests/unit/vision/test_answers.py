"""JSON in what models say.

The texts are written after the examples in Qwen's own documentation and its users' issue threads (QwenLM/Qwen3-VL:
cookbooks/2d_grounding, spatial_understanding, computer_use); none was recorded from a model.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.handlers.vision.answers import MAX_ITEMS, entries_of, json_of

CAT = {"bbox_2d": [10, 20, 30, 40], "label": "cat"}
DOG = {"bbox_2d": [50, 60, 70, 80], "label": "dog"}
LIST = json.dumps([CAT, DOG])


def items_of(text: str) -> list[dict[str, Any]]:
    """The objects that are read, each of which stands where it is said to."""
    found = entries_of(text)
    for entry, later in pairwise(found):
        assert entry.end <= later.start
    assert all(text[entry.start] == "{" and text[entry.end - 1] == "}" for entry in found)
    return [entry.item for entry in found]


@pytest.mark.parametrize(
    "text",
    [
        LIST,
        f"```json\n{LIST}\n```",
        f"```\n{LIST}\n```",
        f"Here are the animals:\n```json\n{LIST}\n```\nThere are two of them.",
        f"There are two. {LIST} That is all.",
        f"```json\n{LIST}",
        json.dumps({"objects": [CAT, DOG]}),
        json.dumps([CAT, DOG], indent=2).replace('"dog"\n  }', '"dog",\n  },'),
        f"```json\n[\n\t{json.dumps(CAT)},\n\t{json.dumps(DOG)[:-1]},}},\n]\n```",
        json.dumps(CAT) + "\n" + json.dumps(DOG),
    ],
)  # fmt: skip
def test_a_list_is_found_however_it_is_wrapped(text: str) -> None:
    assert items_of(text) == [CAT, DOG]


@pytest.mark.parametrize("cut", range(len(json.dumps([CAT])), len(LIST)))
def test_of_a_list_that_breaks_off_the_whole_entries_are_taken(cut: int) -> None:
    assert items_of(f"```json\n{LIST[:cut]}")[:1] == [CAT]
    assert items_of('{"objects": ' + LIST[:cut])[:1] == [CAT]


def test_an_empty_list_is_no_entry() -> None:
    assert items_of('{"objects": []}') == items_of("[]") == items_of("") == items_of("I see nothing.") == []


def test_commas_and_brackets_in_words_stay() -> None:
    entry = {"bbox_2d": [1, 2, 3, 4], "text": "a,] b,} {c} [d, ```"}
    assert items_of(json.dumps([entry])) == [entry]


def test_an_answer_that_repeats_itself_is_read_up_to_a_bound() -> None:
    assert len(items_of("[" + ",".join([json.dumps(CAT)] * (MAX_ITEMS + 50)))) == MAX_ITEMS


def test_depth_and_length_do_no_harm() -> None:
    assert items_of("[" * 100_000) == []
    assert items_of("{" * 2000) == []
    assert items_of('{"a":' * 2000) == []


@given(st.text(alphabet='{}[]",:abc\\ 12`\n', max_size=200))
def test_anything_can_be_read(text: str) -> None:
    assert all(isinstance(one, dict) for one in items_of(text))
    json_of(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(VALUES)
def test_what_is_json_stays_as_it_is(value: object) -> None:
    wrapped = {"data": value}
    assert json_of(json.dumps(wrapped)) == wrapped


def test_data_is_found_in_a_fence_and_words() -> None:
    assert json_of('Sure:\n```json\n{"total": 12.5,}\n```') == {"total": 12.5}
    assert json_of("none") is None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"a": "\\ud800!"}', {"a": "?!"}),
        ('{"\\udfff": 1}', {"?": 1}),
        ('{"a": [' + "9" * 400 + "]}", {"a": [None]}),
        ('{"a": 18446744073709551616}', {"a": 18446744073709551616.0}),
        ("[" * 200 + "1" + "]" * 200, None),
    ],
    ids=["half a pair", "half a pair as a name", "400 digits", "65 bits", "200 levels"],
)
def test_what_could_not_be_sent_on_is_not_read(text: str, read: object) -> None:
    found = json_of(text)
    assert json.loads(orjson.dumps(found)) == found
    if read is not None:
        assert found == read
