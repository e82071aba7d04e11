"""Streamed chats on several servers in turn: options, rounds, and the report that the benchmarks of engines share.

In every round each load runs on all servers directly after each other; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.client import measured
from benchmarks.load import PATIENCE_SECONDS
from benchmarks.options import count, positive
from benchmarks.processes import say
from benchmarks.report import figure, table, verdict
from benchmarks.spread import Spread
from benchmarks.streams import StreamLoad, StreamSample

#: The name of the server under test.
GROUP = "group"


@dataclass(frozen=True)
class Point:
    """One load.

    Attributes:
        streams: at once.
        long_prompt: words of a prompt that disturbs them; 0 for none.
    """

    streams: int
    long_prompt: int = 0

    @property
    def title(self) -> str:
        """What it is, for people."""
        disturbed = f", a prompt of {self.long_prompt} tokens comes in" if self.long_prompt else ""
        return f"{self.streams} streams{disturbed}"


#: Server name -> one sample a round.
Samples = Mapping[str, Sequence[StreamSample]]
Results = Mapping[Point, Samples]


def add_arguments(parser: argparse.ArgumentParser, streams: Sequence[int]) -> None:
    """Declare the options that these benchmarks share; ``streams`` are measured by default."""
    parser.add_argument("--seconds", type=positive, default=12, help="measured time of each point (default: 12)")
    parser.add_argument("--rounds", type=count, default=3, help="how often each point is measured (default: 3)")
    parser.add_argument("--tokens", type=count, default=64, help="the most tokens of an answer (default: 64)")
    default = " ".join(map(str, streams))
    parser.add_argument(
        "--streams", type=count, nargs="+", default=list(streams), help=f"streams at once (default: {default})"
    )
    parser.add_argument(
        "--port", type=int, default=8100, help="the group's port; the next ones are the others' (default: 8100)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the table to this file, too")


def how(options: argparse.Namespace) -> str:
    """How it was measured, in one line."""
    return f"{options.seconds:g} s a point, rounds: {options.rounds}, at most {options.tokens} tokens an answer"


def measure(
    loads: Mapping[str, StreamLoad],
    points: Sequence[Point],
    rounds: int,
    takes_part: Callable[[str, Point], bool] = lambda server, point: True,
) -> Results:
    """Run every point on every server, ``rounds`` times.

    Args:
        loads: server name -> its load for one stream.
        takes_part: whether a server is measured at a point.

    Raises:
        BenchmarkError: some request failed.
    """
    say("asking every server once")
    for server, load in loads.items():
        _sample(replace(load, seconds=0.5, warm_up=0.0), server)
    results: dict[Point, dict[str, list[StreamSample]]] = {}
    for number in range(rounds):
        for point in points:
            at = results.setdefault(point, {})
            present = [server for server in loads if takes_part(server, point)]
            # The order alternates, so that none always runs on the warmer machine.
            for server in present[:: -1 if number % 2 else 1]:
                load = replace(loads[server], streams=point.streams, long_prompt=point.long_prompt)
                sample = _sample(load, server)
                at.setdefault(server, []).append(sample)
                say(
                    f"round {number + 1}, {point.title}, {server}: {sample.tokens_per_second:.1f} tokens/s,"
                    f" first token {sample.first_token_p50:.0f} ms, longest gap {sample.gap_most:.0f} ms"
                )
    return results


def _sample(load: StreamLoad, server: str) -> StreamSample:
    allowed = load.warm_up + load.seconds + 2 * PATIENCE_SECONDS
    return StreamSample(**measured("benchmarks.streams", load, f"{load.streams} streams, {server}", allowed))


def speed_row(point: Point, at: Samples, rival: str, at_least: float) -> list[str]:
    """The group's tokens a second over a rival's, against its bar."""
    ratios = [a.tokens_per_second / b.tokens_per_second for a, b in zip(at[GROUP], at[rival], strict=True)]
    return verdict(f"tokens/s over {rival}, {point.title}", Spread.of(ratios), at_least=at_least)


def first_token_row(point: Point, at: Samples, rival: str, at_most: float) -> list[str]:
    """The group's time to the first token over a rival's, against its bar."""
    ratios = [a.first_token_p50 / b.first_token_p50 for a, b in zip(at[GROUP], at[rival], strict=True)]
    return verdict(f"first token over {rival}, {point.title}", Spread.of(ratios), at_most=at_most)


def markdown(title: str, facts: Mapping[str, str], bars: Sequence[Sequence[str]], results: Results) -> str:
    """The report: where it ran, each bar with its number, and every point."""
    points = ["load", "server", "tokens/s", "least..most", "first token p50 ms", "longest gap p50 ms", "most"]
    rows = [_row(point, server, found) for point, at in results.items() for server, found in at.items()]
    return "\n".join(
        [
            f"## {title}",
            "",
            *[f"- {name}: {value}" for name, value in facts.items()],
            "",
            *table(["what", "median", "least..most", "bar", "verdict"], bars),
            "",
            *table(points, rows),
            "",
        ]
    )


def publish(text: str, out: Path | None) -> None:
    """Write a report to standard output, and to the end of a file where one is named."""
    sys.stdout.write(text)
    if out:
        with out.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def _row(point: Point, server: str, samples: Sequence[StreamSample]) -> list[str]:
    speed = Spread.of([one.tokens_per_second for one in samples])
    return [
        point.title,
        server,
        figure(speed.median),
        f"{figure(speed.least)}..{figure(speed.most)}",
        figure(Spread.of([one.first_token_p50 for one in samples]).median),
        figure(Spread.of([one.gap_p50 for one in samples]).median),
        figure(max(one.gap_most for one in samples)),
    ]
