"""The table and the data of the gateway benchmark."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.bars import BARS
from benchmarks.load import Sample
from benchmarks.report import Results, data, figure, markdown, table

SAMPLE = Sample(
    requests=300, per_second=100.0, first_token_p50=10.0, first_token_p95=20.0, total_p50=30.0, frames=32.0
)
FACTS = {"python": "3.11.7", "litellm": "not measured"}


def results(ours: float) -> Results:
    return {"unpaced-32": {"bare": [SAMPLE, SAMPLE], "ours": [replace(SAMPLE, per_second=ours), SAMPLE]}}


def lines_with(text: str, part: str) -> list[str]:
    return [line for line in text.splitlines() if part in line]


def test_a_table_has_a_head_a_rule_and_its_rows() -> None:
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.456, "0.46"), (12.34, "12.3"), (-12.34, "-12.3"), (850.6, "851"), (0.0, "0.00")]
)
def test_a_figure_has_about_three_digits(value: float, text: str) -> None:
    assert figure(value) == text


def test_the_report_names_where_it_was_made() -> None:
    assert "- python: 3.11.7" in markdown(FACTS, results(60)).splitlines()


def test_a_bar_that_was_reached_is_met_and_shows_its_spread() -> None:
    (line,) = lines_with(markdown(FACTS, results(60)), "over bare, unpaced, c=32")
    assert line.endswith("| 0.80 | 0.60..1.00 | at least 0.45 | met |")


def test_a_bar_that_was_not_reached_is_missed() -> None:
    missed: Results = {"unpaced-32": {"bare": [SAMPLE], "ours": [replace(SAMPLE, per_second=44.0)]}}
    (line,) = lines_with(markdown(FACTS, missed), "over bare, unpaced, c=32")
    assert line.endswith("| 0.44 | 0.44..0.44 | at least 0.45 | missed |")


def test_a_bar_without_its_rival_says_that_it_was_not_measured() -> None:
    (line,) = lines_with(markdown(FACTS, results(60)), "over LiteLLM")
    assert line.endswith("not measured |")


def test_every_measured_server_of_a_point_has_a_row() -> None:
    rows = lines_with(markdown(FACTS, results(60)), "| unpaced, c=32 |")
    assert [row.split(" | ")[1] for row in rows] == ["bare", "gateway"]


def test_the_data_holds_every_sample_of_every_round() -> None:
    points = data(FACTS, results(60))["points"]
    assert [(one["server"], one["round"], one["per_second"]) for one in points] == [
        ("bare", 1, 100.0),
        ("bare", 2, 100.0),
        ("ours", 1, 60),
        ("ours", 2, 100.0),
    ]


def test_the_data_holds_every_bar_measured_or_not() -> None:
    bars = data(FACTS, results(60))["bars"]
    assert len(bars) == len(BARS)
    assert [bar["met"] for bar in bars].count(None) == len(BARS) - 1
