"""Duplicates and personal data in generated conversations, by one worker and by two, and beside other libraries.

The conversations have planted duplicates, near duplicates and personal data, and much that only looks so; what was
found is held against what was planted. Each run is in a process of its own with Ray workers of its own, whose start
is not timed; in every round one worker and two do the same directly after each other, and the ratio is taken within
the round. Memory is that of the whole tree of processes at its most, and is measured at a tenth of the rows, too.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from benchmarks import curate_data, curate_rivals, curate_truth, machine, tree
from benchmarks.curate_steps import STEPS
from benchmarks.curate_truth import Score
from benchmarks.folders import temporary_folder
from benchmarks.options import count
from benchmarks.processes import say
from benchmarks.report import figure, table, verdict
from benchmarks.rounds import publish
from benchmarks.spread import Spread

SUMMARY = "duplicates and personal data in generated conversations, and against datasketch and text-dedup"

#: Two workers over one; memory at all rows over memory at a tenth; near duplicates that are found, and are right.
SCALING_BAR, MEMORY_BAR, RECALL_BAR, PRECISION_BAR = 1.6, 1.25, 0.95, 0.98


@dataclass(frozen=True)
class Sample:
    """One run.

    Attributes:
        step: what was done, or which library did it.
        peak: bytes of memory of the whole tree of processes.
    """

    step: str
    workers: int
    rows: int
    seconds: float
    peak: int

    @property
    def per_second(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


@dataclass
class Results:
    """All samples, and the scores by what they are of."""

    samples: list[Sample]
    scores: dict[str, Score]

    def of(self, step: str, workers: int, rows: int) -> list[Sample]:
        """The samples of one point, in the order of the rounds."""
        return [one for one in self.samples if (one.step, one.workers, one.rows) == (step, workers, rows)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rows", type=count, default=1_000_000, help="conversations (default: 1000000)")
    parser.add_argument("--rounds", type=count, default=3, help="how often each point is measured (default: 3)")
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS), help="only these")
    parser.add_argument("--rival-rows", type=count, default=200_000, help="rows for the rivals (default: 200000)")
    parser.add_argument("--no-rivals", action="store_true", help="measure without datasketch and text-dedup")
    parser.add_argument("--text-dedup-python", metavar="FILE", help="a Python of 3.12 or later, for text-dedup")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the tables to this file, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample and score to this file")


def run(options: argparse.Namespace) -> None:
    """Measure and write the tables.

    Raises:
        BenchmarkError: something could not be installed or failed.
    """
    facts = {**machine.facts(), "measured": f"{options.rows:,} conversations, rounds: {options.rounds}"}
    results = Results([], {})
    with temporary_folder() as folder:
        shards, seconds = _written(folder / "rows", options.rows)
        size = sum(path.stat().st_size for path in shards)
        facts["input"] = f"{size / 1e6:,.0f} MB, made at {options.rows / seconds:,.0f} rows/s"
        for number in range(options.rounds):
            for step in options.steps:
                # The order alternates, so that none always runs on the warmer machine.
                for workers in (1, 2) if number % 2 == 0 else (2, 1):
                    _measure(results, step, workers, shards, options.rows, folder)
        tenth, _ = _written(folder / "tenth", max(options.rows // 10, 1))
        for step in options.steps:
            _measure(results, step, 2, tenth, max(options.rows // 10, 1), folder)
        if not options.no_rivals and "duplicates" in options.steps:
            _rivals(results, folder, options)
    publish(markdown(facts, results, options.rows), options.out)
    if options.json:
        options.json.write_bytes(orjson.dumps(data(facts, results), option=orjson.OPT_INDENT_2))


def _written(folder: Path, rows: int) -> tuple[list[Path], float]:
    say(f"making {rows:,} conversations")
    folder.mkdir()
    began = time.perf_counter()
    shards = curate_data.write(folder, rows)
    return shards, time.perf_counter() - began


def _measure(results: Results, step: str, workers: int, shards: list[Path], rows: int, folder: Path) -> None:
    """Run a step once, and judge what it found unless that was done: it depends on the rows alone."""
    out = folder / "out"
    out.mkdir()
    command = [sys.executable, "-m", "benchmarks.curate_work", step, *map(str, shards)]
    ran = tree.run([*command, "--workers", str(workers), "--out", str(out)], folder / f"{step}.log")
    sample = Sample(step, workers, rows, float(ran.output), ran.peak)
    results.samples.append(sample)
    say(f"{step}, {rows:,} rows, workers: {workers}: {sample.per_second:,.0f} rows/s, {ran.peak >> 20} MiB")
    if step not in results.scores:
        if step == "duplicates":
            results.scores[step] = curate_truth.duplicates(curate_truth.groups_of_pairs(rows, out / "dropped.jsonl"))
        else:
            results.scores[step], results.scores["ordinary"] = curate_truth.personal(rows, out)
    shutil.rmtree(out)


def _rivals(results: Results, folder: Path, options: argparse.Namespace) -> None:
    rows = options.rival_rows
    shards, _ = _written(folder / "rival", rows)
    texts = folder / "texts.jsonl"
    curate_rivals.write_texts(shards, texts)
    for workers in (1, 2):
        _measure(results, "duplicates", workers, shards, rows, folder)
    for name, workers, (seconds, groups, peak) in (
        (curate_rivals.DATASKETCH, 1, curate_rivals.datasketch(texts, rows, folder)),
        (curate_rivals.TEXT_DEDUP, 2, curate_rivals.text_dedup(texts, rows, folder, options.text_dedup_python)),
    ):
        results.samples.append(Sample(name, workers, rows, seconds, peak))
        results.scores[name] = curate_truth.duplicates(groups)


def markdown(facts: dict[str, str], results: Results, rows: int) -> str:
    """The report: where it ran, each bar with its number, every point, and what was found."""
    head = ["step", "workers", "rows", "rows/s", "least..most", "peak memory, MiB"]
    points = sorted({(one.rows, one.step, one.workers) for one in results.samples}, reverse=True)
    return "\n".join(
        [
            "## Curate",
            "",
            *[f"- {name}: {value}" for name, value in facts.items()],
            "",
            *table(["what", "median", "least..most", "bar", "verdict"], list(_bars(results, rows))),
            "",
            *table(head, [_point(results.of(step, workers, at)) for at, step, workers in points]),
            "",
            *table(["what", "planted", "found", "precision"], list(_found(results))),
            "",
        ]
    )


def _bars(results: Results, rows: int) -> Iterator[list[str]]:
    for step in STEPS:
        one, two = results.of(step, 1, rows), results.of(step, 2, rows)
        if not one or not two:
            continue
        ratios = [fast.per_second / slow.per_second for slow, fast in zip(one, two, strict=False)]
        yield verdict(f"{step}: two workers over one", Spread.of(ratios), at_least=SCALING_BAR)
        [tenth] = results.of(step, 2, max(rows // 10, 1))
        growth = Spread.of([sample.peak / tenth.peak for sample in two])
        yield verdict(f"{step}: memory over that at a tenth of the rows", growth, at_most=MEMORY_BAR)
    if score := results.scores.get("duplicates"):
        recall = score.recall(lambda kind: kind.startswith("near"))
        yield verdict("near duplicates: recall", Spread.of([recall]), at_least=RECALL_BAR)
        yield verdict("duplicates: precision", Spread.of([score.precision]), at_least=PRECISION_BAR)
    for name in (curate_rivals.DATASKETCH, curate_rivals.TEXT_DEDUP):
        for sample in results.samples:
            if sample.step == name:
                ours = results.of("duplicates", sample.workers, sample.rows)[-1]
                ratio = figure(ours.per_second / sample.per_second)
                yield [f"rows/s over {name}, {sample.rows:,} rows, workers: {sample.workers}", ratio, "-", "-", "-"]


def _point(samples: list[Sample]) -> list[str]:
    speed = Spread.of([one.per_second for one in samples])
    first = samples[0]
    between = f"{figure(speed.least)}..{figure(speed.most)}"
    peak = str(max(one.peak for one in samples) >> 20)
    return [first.step, str(first.workers), f"{first.rows:,}", figure(speed.median), between, peak]


def _found(results: Results) -> Iterator[list[str]]:
    for name, score in results.scores.items():
        precision = f"{score.precision:.2%}" if score.found else "-"
        for kind, planted in sorted(score.planted.items()):
            yield [f"{name}: {kind}", f"{planted:,}", f"{score.hit[kind] / planted:.2%}", precision]


def data(facts: dict[str, str], results: Results) -> dict[str, object]:
    """The same as plain data, with every sample."""
    return {
        "facts": facts,
        "samples": [asdict(one) for one in results.samples],
        "scores": {name: score.body() for name, score in results.scores.items()},
    }
