"""What may be stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.errors import InvalidRequest
from serve.store import checked_metadata
from serve.store.values import MAX_JSON_DEPTH, clean_json, clean_text

# A busy machine is no fault of the code.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ANY_TEXT = st.text(st.characters(exclude_categories=()))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
)


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@patient
@given(ANY_TEXT)
def test_clean_text_can_be_encoded_and_has_no_nul(text: str) -> None:
    assert b"\x00" not in clean_text(text).encode()


@patient
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_storable_text_stays_as_it_is(text: str) -> None:
    assert clean_text(text) == text


@patient
@given(ANY_TEXT)
def test_clean_text_has_one_character_for_each(text: str) -> None:
    assert len(clean_text(text)) == len(text)


@patient
@given(ANY_JSON)
def test_clean_json_is_json_and_survives_a_round_trip(value: Any) -> None:
    cleaned = clean_json(value, "request")
    assert json.loads(json.dumps(cleaned, allow_nan=False, ensure_ascii=False).encode()) == cleaned


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_lacks_becomes_null(value: float) -> None:
    assert clean_json({"a": [value, 1.5]}, "request") == {"a": [None, 1.5]}


def test_the_deepest_json_allowed_is_kept() -> None:
    assert clean_json(nested(MAX_JSON_DEPTH), "request") == nested(MAX_JSON_DEPTH)


def test_deeper_json_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as raised:
        clean_json(nested(MAX_JSON_DEPTH + 1), "choices")
    assert raised.value.param == "choices"


def test_metadata_at_every_limit_is_kept() -> None:
    metadata = {f"{i:064}": "👩" * 512 for i in range(15)} | {"k": ""}
    assert checked_metadata(metadata) == metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {str(i): "" for i in range(17)},
        {"": "a"},
        {"k" * 65: "a"},
        {"k": "a" * 513},
    ],
)
def test_metadata_beyond_a_limit_is_refused_by_name(metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        checked_metadata(metadata)
    assert raised.value.param == "metadata"


def test_metadata_is_cleaned() -> None:
    assert checked_metadata({"a\x00": "\ud800"}) == {"a\ufffd": "\ufffd"}
