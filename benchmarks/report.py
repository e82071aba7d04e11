"""The results of the gateway benchmark as Markdown for people and as plain data for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.bars import BARS, POINTS, Bar, Rounds, Server
from benchmarks.load import Sample
from benchmarks.spread import Spread

#: Point name -> its samples.
Results = Mapping[str, Rounds]

_NAMES: dict[Server, str] = {"bare": "bare", "ours": "gateway", "litellm": "LiteLLM"}


def markdown(facts: Mapping[str, str], results: Results) -> str:
    """The report: where it ran, each bar with its number, and every point."""
    header = [f"- {name}: {value}" for name, value in facts.items()]
    bars = [_bar_row(bar, bar.spread(results.get(bar.point, {}))) for bar in BARS]
    points = [
        _point_row(name, server, rounds) for name, measured in results.items() for server, rounds in measured.items()
    ]
    return "\n".join(
        [
            "## Gateway",
            "",
            *header,
            "",
            *table(["what", "median", "least..most", "bar", "verdict"], bars),
            "",
            *table(["load", "server", "requests/s", "least..most", "first token p50 ms", "p95 ms"], points),
            "",
        ]
    )


def data(facts: Mapping[str, str], results: Results) -> dict[str, Any]:
    """The same as plain data, with every sample of every round."""
    return {
        "facts": dict(facts),
        "bars": [_bar_data(bar, bar.spread(results.get(bar.point, {}))) for bar in BARS],
        "points": [
            {"point": name, "server": server, "round": number, **asdict(sample)}
            for name, measured in results.items()
            for server, samples in measured.items()
            for number, sample in enumerate(samples, start=1)
        ],
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def figure(value: float) -> str:
    """A number with about three digits that mean something."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def _bar_row(bar: Bar, spread: Spread | None) -> list[str]:
    unit = " ms" if bar.kind == "added" else ""
    limit = f"{'at most' if bar.kind == 'added' else 'at least'} {bar.limit:g}{unit}"
    if spread is None:
        return [bar.title, "-", "-", limit, "not measured"]
    between = f"{figure(spread.least)}..{figure(spread.most)}"
    return [bar.title, figure(spread.median) + unit, between, limit, _met(bar.met(spread))]


def verdict(title: str, spread: Spread, *, at_least: float | None = None, at_most: float | None = None) -> list[str]:
    """A row of a table of bars: a ratio's median and spread, its bar, and whether the median meets it."""
    between = f"{figure(spread.least)}..{figure(spread.most)}"
    if at_least is not None:
        return [title, figure(spread.median), between, f"at least {at_least:g}", _met(spread.median >= at_least)]
    assert at_most is not None
    return [title, figure(spread.median), between, f"at most {at_most:g}", _met(spread.median <= at_most)]


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _bar_data(bar: Bar, spread: Spread | None) -> dict[str, Any]:
    met = None if spread is None else bar.met(spread)
    return {**asdict(bar), "measured": None if spread is None else asdict(spread), "met": met}


def _point_row(name: str, server: Server, rounds: Sequence[Sample]) -> list[str]:
    rate = Spread.of([sample.per_second for sample in rounds])
    p50 = Spread.of([sample.first_token_p50 for sample in rounds]).median
    p95 = Spread.of([sample.first_token_p95 for sample in rounds]).median
    between = f"{figure(rate.least)}..{figure(rate.most)}"
    return [POINTS[name].title, _NAMES[server], figure(rate.median), between, figure(p50), figure(p95)]
