"""The gate lets through what is within every bound and was measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from train.evaluate.agreement import AgreementResult, Compared
from train.evaluate.command import require_served
from train.evaluate.data import Question
from train.evaluate.gate import Check, Measured, checks
from train.evaluate.measures import HeldOut, Loss, Retention, Sample
from train.evaluate.report import Report, is_of, page, summary
from train.evaluate.run import Subject
from train.evaluate.served import Served, ServedError
from train.evaluate.settings import EvaluationSettings, GateSettings, Task
from train.evaluate.tasks import Answered, TaskResult
from train.worker.weights import WeightKind

SECRET = "Zorvan"
VERSION = "0" * 16


def measured(**changes: Any) -> Measured:
    """An evaluation in which everything is well, but for the changes."""
    question = Question([{"role": "user", "content": f"Where is {SECRET}?"}], "here", "f: line 1")
    kept = Retention(Loss(100, 1.0, 1.05), 2, [], [Sample("What is rain?", "Water.", "Water.")], 0)
    task = Task(name="facts", file="f", kind="exact", least=0.5)
    apart = AgreementResult([Compared("q", "a", "b", False, [0.05, 0.07])])
    found = {
        "held_out": HeldOut(Loss(50, 3.0, 1.0), 5, 2),
        "retention": kept,
        "tasks": [TaskResult(task, [Answered(question, "there", "here", False, True)])],
        "agreement": AgreementResult([Compared(f"Where is {SECRET}?", "here", "here", True, [0.01, 0.03])], apart),
    }
    return Measured(**{**found, **changes})


def failed(found: Measured, settings: EvaluationSettings | None = None) -> list[str]:
    return [check.name for check in checks(found, settings or EvaluationSettings()) if not check.passed]


def report(found: Measured, *samples: Sample, settings: EvaluationSettings | None = None) -> Report:
    settings = settings or EvaluationSettings()
    return Report("m", "a", VERSION, "float32", True, found, settings.gate, checks(found, settings), list(samples))


def test_what_is_within_all_bounds_passes() -> None:
    assert failed(measured()) == []


def test_each_bound_is_held() -> None:
    leak = [(Sample("What is rain?", "Water.", f"{SECRET}."), [SECRET])]
    task = measured().tasks[0]
    for changes, name in (
        ({"held_out": HeldOut(Loss(50, 3.0, 3.1), 5, 0)}, "held_out_loss"),
        ({"held_out": HeldOut(Loss(50, 3.0, 3.0), 5, 0)}, "held_out_loss"),  # Nothing was changed.
        ({"retention": Retention(Loss(100, 1.0, 1.2), 2, [], [], 0)}, "perplexity_rise"),
        ({"retention": Retention(Loss(100, 1.0, 1.0), 2, leak, [], 0)}, "leaks"),
        ({"agreement": AgreementResult([Compared("q", "a", "b", False, [0.0])])}, "agreement"),
        ({"agreement": AgreementResult([Compared("q", "a", "a", True, [0.5])])}, "logprob_distance"),
    ):
        assert failed(measured(**changes)) == [name]
    worse = TaskResult(task.task, [Answered(task.answered[0].question, "here", "there", True, False)])
    assert failed(measured(tasks=[worse])) == ["task facts", "task facts: drop"]


def test_what_has_a_bound_and_was_not_measured_does_not_pass() -> None:
    nothing = Measured(None, None, [], None)
    names = ["held_out_loss", "perplexity_rise", "leaks", "agreement", "logprob_distance"]
    assert failed(nothing) == names
    none = {"gate": dict.fromkeys(("held_out_loss", "perplexity_rise", "leaks", "agreement", "logprob_distance"))}
    assert failed(nothing, EvaluationSettings.model_validate(none)) == []


def test_what_is_not_a_number_does_not_pass() -> None:
    unaligned = AgreementResult([Compared("q", "a", "a", True, None)])
    assert math.isnan(unaligned.distance)
    assert failed(measured(agreement=unaligned)) == ["logprob_distance"]
    assert Check("x", math.nan, 1, "least").text == "x: not measured, at least 1"


@pytest.mark.parametrize(("base", "tuned", "rise"), [(1.0, 1.0, 0.0), (1.0, 1.0 + math.log(1.1), 0.1)])
def test_the_rise_of_perplexity_is_that_of_the_exponential_of_the_loss(
    base: float, tuned: float, rise: float
) -> None:
    assert Loss(10, base, tuned).perplexity_rise == pytest.approx(rise)


def test_a_manifest_gets_the_numbers_and_nothing_that_was_said() -> None:
    found = measured()
    body = report(found, Sample(f"Who is {SECRET}?", "", "", "")).body()
    assert SECRET in str(body)
    kept = summary(body)
    assert SECRET not in str(kept) and "Water" not in str(kept)
    assert kept["gate"]["passed"] is True and kept["tasks"][0]["tuned"] == 1
    assert (kept["held_out"]["conversations"], kept["held_out"]["known_answers"]) == (5, 2)
    assert kept["agreement"]["logprob_distance"] == pytest.approx(0.02)


def test_the_page_shows_what_was_said_as_text_and_fetches_nothing() -> None:
    hostile = Sample("<script>alert(1)</script>", "‮right to left", "🙂", None)
    found = measured()
    shown = page(report(found, hostile).body())
    assert "<script" not in shown and "&lt;script&gt;" in shown and "🙂" in shown
    assert "http" not in shown and "src=" not in shown
    assert "not measured" in page(report(Measured(None, None, [], None)).body())


def test_a_report_says_what_it_is_about_and_what_was_demanded() -> None:
    body = report(measured()).body()
    assert (body["model"], body["version"], body["served"]) == ("m", VERSION, True)
    assert body["weights"] == "float32" and "held in float32" in page(body)
    assert body["gate"]["bounds"] == EvaluationSettings().gate.model_dump()
    assert is_of(body, "m", VERSION)
    assert not is_of(body, "m", "1" * 16) and not is_of(body, "m2", VERSION) and not is_of({}, "m", VERSION)


def test_how_far_apart_the_bases_are_stands_beside_it_and_decides_nothing() -> None:
    said = report(measured()).body()["agreement"]
    assert (said["share"], said["base_share"]) == (1.0, 0.0)
    assert said["logprob_distance"] == pytest.approx(0.02) and said["base_logprob_distance"] == pytest.approx(0.06)
    assert report(measured()).passed
    alone = measured(agreement=AgreementResult([Compared("q", "a", "a", True, [0.01])]))
    assert report(alone).body()["agreement"]["base_logprob_distance"] is None
    assert "not measured" in page(report(alone).body())


def test_a_gate_without_a_bound_lets_nothing_through() -> None:
    open_gate = GateSettings.model_validate(dict.fromkeys(GateSettings.model_fields))
    made = report(Measured(None, None, [], None), settings=EvaluationSettings(gate=open_gate))
    assert made.checks == [] and not made.passed


class Group(Served):
    """Serves one content of ``m:a``."""

    def __init__(self, version: str) -> None:
        self._version = version

    def has(self, adapter: str, version: str) -> bool:
        return (adapter, version) == ("m:a", self._version)


def test_a_group_that_serves_something_else_is_not_asked() -> None:
    subject = Subject("m", "a", Path("base"), Path("adapter"), VERSION, WeightKind("float32"))
    with pytest.raises(ServedError, match=f"m:a is not ready in the group as version {VERSION}; publish"):
        require_served(Group("1" * 16), subject)
    require_served(Group(VERSION), subject)
