"""Values whose types nobody promised."""

from __future__ import annotations

from typing import Any

import pytest

from train.dataset.exports.values import moment, name_of, record, records, text_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_715_000_000, "2024-05-06T12:53:20+00:00"),
        (1_715_000_000.25, "2024-05-06T12:53:20.250000+00:00"),
        (1_715_000_000_000, "2024-05-06T12:53:20+00:00"),
        (1_715_000_000_000_000, "2024-05-06T12:53:20+00:00"),
        (1_715_000_000_000_000_000, "2024-05-06T12:53:20+00:00"),
        ("2024-05-06T12:53:20Z", "2024-05-06T12:53:20+00:00"),
        ("2024-05-06T14:53:20+02:00", "2024-05-06T12:53:20+00:00"),
        ("2024-05-06T12:53:20.123456", "2024-05-06T12:53:20.123456+00:00"),
        (" 2024-05-06 ", "2024-05-06T00:00:00+00:00"),
    ],
)
def test_times_are_read_in_every_unit_and_form(value: object, expected: str) -> None:
    found = moment(value)
    assert found is not None
    assert found.isoformat() == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        1e308,
        float("nan"),
        float("inf"),
        10**40,
        "",
        "yesterday",
        "0001-01-01T00:00:00+14:00",
        [],
        {},
    ],
)
def test_what_is_no_time_is_none(value: object) -> None:
    assert moment(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(" a ", "a"), (7, "7"), ("", None), (True, None), (1.5, None), (None, None), (10**40, None)],
)
def test_names_are_texts_or_whole_numbers(value: object, expected: str | None) -> None:
    assert name_of(value) == expected


@pytest.mark.parametrize("value", [None, 1, "x", [1, None, "a"], {"a": 1}])
def test_other_types_are_nothing(value: Any) -> None:
    assert text_of(value) == (value if isinstance(value, str) else "")
    assert record(value) == (value if isinstance(value, dict) else {})
    assert records(value) == []
