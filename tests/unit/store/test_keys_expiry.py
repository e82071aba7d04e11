"""Durations on the command line of ``serve.keys``."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

import pytest

from serve.keys import expiry


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1h", timedelta(hours=1)),
        ("30d", timedelta(days=30)),
        ("999999h", timedelta(hours=999_999)),
        ("8w", timedelta(weeks=8)),
    ],
)
def test_a_duration_is_counted_from_now(text: str, length: timedelta) -> None:
    before = datetime.now(UTC)
    moment = expiry(text)
    assert before + length <= moment <= datetime.now(UTC) + length


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5d", "30 d", "30D", "1m", "30d ", "٣d", "999999w"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        expiry(text)
