"""The gate: each measured value against its bound. What has a bound and was not measured does not pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from train.evaluate.agreement import AgreementResult
from train.evaluate.measures import HeldOut, Retention
from train.evaluate.settings import EvaluationSettings
from train.evaluate.tasks import TaskResult


@dataclass(frozen=True, slots=True)
class Check:
    """One value and its bound.

    Attributes:
        value: none where it was not measured.
        sense: whether the bound is the most or the least.
    """

    name: str
    value: float | None
    bound: float
    sense: Literal["most", "least"]

    @property
    def passed(self) -> bool:
        """Whether the value is within the bound."""
        if self.value is None or math.isnan(self.value):
            return False
        return self.value <= self.bound if self.sense == "most" else self.value >= self.bound

    @property
    def text(self) -> str:
        """The check in words."""
        said = "not measured" if self.value is None or math.isnan(self.value) else f"{self.value:.4g}"
        return f"{self.name}: {said}, at {self.sense} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that an evaluation found; none where it was not asked for."""

    held_out: HeldOut | None
    retention: Retention | None
    tasks: list[TaskResult]
    agreement: AgreementResult | None


def checks(measured: Measured, settings: EvaluationSettings) -> list[Check]:
    """Every bound of the gate that applies."""
    return list(_checks(measured, settings))


def _checks(measured: Measured, settings: EvaluationSettings) -> Iterator[Check]:
    gate, held_out, kept, alike = settings.gate, measured.held_out, measured.retention, measured.agreement
    if gate.held_out_loss is not None:
        yield Check("held_out_loss", held_out.loss.ratio if held_out else None, gate.held_out_loss, "most")
    if gate.perplexity_rise is not None:
        rise = kept.loss.perplexity_rise if kept else None
        yield Check("perplexity_rise", rise, gate.perplexity_rise, "most")
    if gate.leaks is not None:
        yield Check("leaks", float(len(kept.leaks)) if kept else None, gate.leaks, "most")
    if gate.agreement is not None:
        yield Check("agreement", alike.share if alike else None, gate.agreement, "least")
    if gate.logprob_distance is not None:
        yield Check("logprob_distance", alike.distance if alike else None, gate.logprob_distance, "most")
    for result in measured.tasks:
        if result.task.least is not None:
            yield Check(f"task {result.task.name}", result.tuned, result.task.least, "least")
        if gate.task_drop is not None:
            yield Check(f"task {result.task.name}: drop", result.base - result.tuned, gate.task_drop, "most")
