"""The report of the wake benchmark, and the configs that it measures."""

from __future__ import annotations

import pytest

from benchmarks import wake
from benchmarks.wake import BAR, SMALL, STRONG, State, Woken
from serve.settings.config import check


def report(*found: tuple[State, float]) -> list[str]:
    """The rows of the table."""
    text = wake.markdown({"commit": "abc"}, [Woken(state, seconds) for state, seconds in found])
    assert "- commit: abc" in text
    return [line for line in text.splitlines() if line.startswith("| ")][2:]


def test_each_state_has_its_median_and_its_spread() -> None:
    rows = report(("asleep", 2.0), ("ready", 0.05), ("asleep", 4.0), ("asleep", 3.0), ("resting", 1.0))
    assert rows == [
        "| asleep | 3 | 3.00 s | 2.00..4.00 | at most 5 s | met |",
        "| resting | 1 | 1.00 s | 1.00..1.00 | - | - |",
        "| ready | 1 | 0.05 s | 0.05..0.05 | - | - |",
    ]


def test_one_wake_over_the_bar_misses_it() -> None:
    [row] = report(("asleep", 1.0), ("asleep", 1.0), ("asleep", BAR + 0.1))
    assert row.endswith("missed |")


@pytest.mark.parametrize("change", [wake.sleeps, wake.makes_room])
def test_the_configs_are_right(change: wake.Change) -> None:
    found = check(wake.config(8100, change, SMALL, STRONG))
    assert [model.id for model in found.models] == [SMALL, STRONG]
    assert found.file.http_options.port == 8100
