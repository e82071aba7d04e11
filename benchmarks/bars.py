"""The points at which the gateway is measured, and what it must reach there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.load import Sample
from benchmarks.spread import Spread

Server = Literal["bare", "ours", "litellm"]
#: Samples of one point: server -> one sample a round, in the order of the rounds.
Rounds = Mapping[Server, Sequence[Sample]]


@dataclass(frozen=True)
class Point:
    """One load.

    Attributes:
        name: for the command line. title: for people.
        rival: whether the rival is measured here too; it is slow, and everywhere would take long.
    """

    name: str
    title: str
    model: str
    concurrency: int
    rival: bool = False

    def servers(self, *, rival: bool) -> list[Server]:
        """Which servers are measured here."""
        return ["bare", "ours", "litellm"] if rival and self.rival else ["bare", "ours"]


def _points(name: str, title: str, concurrencies: Sequence[int], rival_at: Sequence[int]) -> list[Point]:
    return [
        Point(f"{name}-{count}", f"{title}, c={count}", f"echo-{name}", count, rival=count in rival_at)
        for count in concurrencies
    ]


POINTS: dict[str, Point] = {
    point.name: point
    for point in [
        *_points("unpaced", "unpaced", (1, 8, 32), rival_at=(1, 32)),
        *_points("20ms", "20 ms a token", (1, 32, 64), rival_at=(32,)),
        *_points("5ms", "5 ms a token", (1, 32, 64), rival_at=()),
    ]
}


@dataclass(frozen=True)
class Bar:
    """A number that the gateway must reach.

    Attributes:
        kind: ``added`` is time to first token (p50) over the other server's, in milliseconds, to be at most
            ``limit``; ``ratio`` is requests a second over the other server's, to be at least ``limit``.
        point: the name of the point where it is read.
        over: the server that it is held against.
    """

    title: str
    kind: Literal["added", "ratio"]
    point: str
    over: Server
    limit: float

    def spread(self, rounds: Rounds) -> Spread | None:
        """The number over the rounds, each round against itself; none where one of the two was not measured."""
        ours, others = rounds.get("ours", ()), rounds.get(self.over, ())
        if not ours or not others:
            return None
        return Spread.of([self._number(mine, other) for mine, other in zip(ours, others, strict=True)])

    def met(self, spread: Spread) -> bool:
        """Whether the median reaches the limit."""
        return spread.median <= self.limit if self.kind == "added" else spread.median >= self.limit

    def _number(self, ours: Sample, other: Sample) -> float:
        if self.kind == "added":
            return ours.first_token_p50 - other.first_token_p50
        return ours.per_second / other.per_second


BARS: list[Bar] = [
    Bar("added time to first token over bare, unpaced, c=1, p50", "added", "unpaced-1", "bare", 2.5),
    Bar("requests/s over bare, unpaced, c=32", "ratio", "unpaced-32", "bare", 0.45),
    Bar("requests/s over LiteLLM, unpaced, c=32", "ratio", "unpaced-32", "litellm", 20.0),
    Bar("requests/s over bare, 20 ms a token, c=32", "ratio", "20ms-32", "bare", 0.97),
    Bar("requests/s over bare, 20 ms a token, c=64", "ratio", "20ms-64", "bare", 0.88),
    Bar("requests/s over bare, 5 ms a token, c=64", "ratio", "5ms-64", "bare", 0.5),
]
