"""What the gateway is held to, computed from samples."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.bars import BARS, POINTS, Bar
from benchmarks.load import Sample
from benchmarks.spread import Spread

SAMPLE = Sample(
    requests=100, per_second=100.0, first_token_p50=10.0, first_token_p95=20.0, total_p50=30.0, frames=32.0
)
RATIO = Bar("a ratio", "ratio", "unpaced-32", "bare", 0.45)
ADDED = Bar("an added time", "added", "unpaced-1", "bare", 2.5)


def at(*rates: float) -> list[Sample]:
    return [replace(SAMPLE, per_second=rate) for rate in rates]


def test_a_ratio_is_taken_within_each_round() -> None:
    spread = RATIO.spread({"ours": at(50, 10, 90), "bare": at(100, 100, 100)})
    assert spread == Spread(median=0.5, least=0.1, most=0.9)


def test_an_added_time_is_the_difference_of_the_medians_of_a_round() -> None:
    ours = [replace(SAMPLE, first_token_p50=12.5)]
    assert ADDED.spread({"ours": ours, "bare": [SAMPLE]}) == Spread(2.5, 2.5, 2.5)


def test_what_was_not_measured_has_no_number() -> None:
    assert replace(RATIO, over="litellm").spread({"ours": at(1.0), "bare": at(1.0)}) is None
    assert RATIO.spread({}) is None


def test_rounds_that_do_not_pair_up_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        RATIO.spread({"ours": at(1.0, 2.0), "bare": at(1.0)})


@pytest.mark.parametrize(("bar", "good", "bad"), [(RATIO, 0.45, 0.449), (ADDED, 2.5, 2.501)])
def test_the_limit_itself_is_met_and_what_lies_beyond_is_missed(bar: Bar, good: float, bad: float) -> None:
    assert bar.met(Spread(good, 0.0, 9.0))
    assert not bar.met(Spread(bad, 0.0, 9.0))


def test_every_bar_is_read_where_both_of_its_servers_are_measured() -> None:
    for bar in BARS:
        assert {"ours", bar.over} <= set(POINTS[bar.point].servers(rival=True))


def test_without_the_rival_only_the_two_others_are_measured() -> None:
    assert {tuple(point.servers(rival=False)) for point in POINTS.values()} == {("bare", "ours")}
