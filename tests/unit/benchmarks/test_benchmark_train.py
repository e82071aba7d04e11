"""The report of the training benchmark, and how speed is read from a run's events."""

from __future__ import annotations

import pytest

from benchmarks import train_served
from benchmarks.errors import BenchmarkError
from benchmarks.train import ONE, PLAIN, TWO, Sample, markdown, sample_of
from benchmarks.train_served import Served
from benchmarks.wake import SMALL
from serve.settings.config import check
from train.events import Event


def steps(*times: float) -> list[Event]:
    events = [Event(1, 0.0, "info", "state", "", {"state": "running"})]
    for step, at in enumerate(times, start=1):
        events.append(Event(step + 1, at, "info", "metrics", "", {"step": step, "tokens": 100 * step, "loss": 1.0}))
    return events


def test_the_first_steps_are_not_timed() -> None:
    assert sample_of(steps(0.0, 60.0, 61.0, 62.0), peak=7) == Sample(tokens_per_second=100.0, peak=7, loss=1.0)


def test_a_run_that_is_too_short_is_told() -> None:
    with pytest.raises(BenchmarkError, match="more than 2 steps"):
        sample_of(steps(0.0, 1.0), peak=7)


def test_ratios_are_taken_within_a_round() -> None:
    def runs(*speeds: float) -> list[Sample]:
        return [Sample(speed, 5 << 20, 0.5) for speed in speeds]

    text = markdown({"commit": "abc"}, {PLAIN: runs(100, 200), ONE: runs(98, 194), TWO: runs(49, 97)})
    assert "- commit: abc" in text
    assert "| tokens/s through Ray Train over the plain script | 0.97 | 0.97..0.98 | at least 0.95 | met |" in text
    assert "| tokens/s of 2 workers over 1, same threads in all | 0.50 | 0.50..0.50 | - | - |" in text
    assert "| Ray Train, 1 worker | 146 | 98.0..194 | 5 | 0.5000 |" in text


def test_the_way_from_a_job_to_its_answer_is_told_step_by_step() -> None:
    text = train_served.markdown(Served(1.0, 20.0, 60.0, 70.0, 71.5, steps=16))
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert rows[2] == "| the last of 16 steps has ended | 60.0 |"
    assert rows[-1] == "| the adapter has answered | 71.5 |"


def test_the_group_of_the_job_can_tune_its_model() -> None:
    found = check(train_served.tuned_config(8100))
    assert [model.id for model in found.models] == [SMALL]
    assert found.gateway_behaviour.fine_tuning.recipes.keys() == {SMALL}
