"""What an evaluation found, as JSON for programs and as a page for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from train.evaluate.gate import Check, Measured
from train.evaluate.measures import Loss, Sample
from train.evaluate.settings import GateSettings
from train.evaluate.tasks import Answered, TaskResult
from train.run_folder import RunFolder

Json = dict[str, Any]

#: In a run's folder.
FOLDER = "evaluation"
REPORT = "evaluation.json"
PAGE = "evaluation.html"

#: Parts of a report that hold what was said; they stay out of an adapter's manifest, which every node reads.
_WORDS = ("samples", "leaked", "answers", "compared")


@dataclass(frozen=True, slots=True)
class Report:
    """One evaluation.

    Attributes:
        model: the id under which the base is served. adapter: what was evaluated. version: its content.
        weights: what the base's were held in on the training side: ``nf4``, ``bfloat16``, ``float16`` or ``float32``.
        served: whether the group that serves it was asked.
        gate: what it had to reach.
        samples: held-out questions with all answers.
    """

    model: str
    adapter: str
    version: str
    weights: str
    served: bool
    measured: Measured
    gate: GateSettings
    checks: list[Check]
    samples: list[Sample]

    @property
    def passed(self) -> bool:
        """Whether every check passed, and there was one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def body(self) -> Json:
        """The report as JSON knows it, with all that was said."""
        measured = self.measured
        return {
            "format": 1,
            "model": self.model,
            "adapter": self.adapter,
            "version": self.version,
            "weights": self.weights,
            "served": self.served,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "gate": {
                "passed": self.passed,
                "bounds": self.gate.model_dump(),
                "checks": [_check(one) for one in self.checks],
            },
            "held_out": self._held_out(),
            "general": self._general(),
            "tasks": [_task(one) for one in measured.tasks],
            "agreement": self._agreement(),
            "samples": [_sample(one) for one in self.samples],
        }

    def _held_out(self) -> Json | None:
        found = self.measured.held_out
        if found is None:
            return None
        return {"conversations": found.conversations, "known_answers": found.known, **_loss(found.loss)}

    def _general(self) -> Json | None:
        found = self.measured.retention
        if found is None:
            return None
        return {
            "prompts": found.prompts,
            "unanswered": found.unanswered,
            "perplexity_rise": _number(found.loss.perplexity_rise),
            **_loss(found.loss),
            "leaks": len(found.leaks),
            "leaked": [{**_sample(one), "names": names} for one, names in found.leaks],
            "samples": [_sample(one) for one in found.samples],
        }

    def _agreement(self) -> Json | None:
        found = self.measured.agreement
        if found is None:
            return None
        return {
            "prompts": len(found.compared),
            "share": _number(found.share),
            "logprob_distance": _number(found.distance),
            "tokens": found.tokens,
            "base_share": _number(found.base.share) if found.base else None,
            "base_logprob_distance": _number(found.base.distance) if found.base else None,
            "compared": [
                {"question": one.question, "trained": one.trained, "served": one.served, "same": one.same}
                for one in found.compared
            ],
        }


def is_of(body: Json, model: str, version: str) -> bool:
    """Whether a report is about this content of an adapter of this model."""
    return (body.get("model"), body.get("version")) == (model, version)


def summary(body: Json) -> Json:
    """A report without what was said, for a manifest."""
    return {
        name: summary(value)
        if isinstance(value, dict)
        else [summary(one) if isinstance(one, dict) else one for one in value]
        if isinstance(value, list)
        else value
        for name, value in body.items()
        if name not in _WORDS
    }


def write_report(run: RunFolder, report: Report) -> None:
    """Write both forms into the folder of a run, the JSON last.

    Raises:
        StorageError
    """
    body = report.body()
    run.write(f"{FOLDER}/{PAGE}", page(body).encode())
    run.write_json(f"{FOLDER}/{REPORT}", body)


def page(body: Json) -> str:
    """A report as a page of its own: nothing is fetched by it."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("page.html.jinja").render(report=body)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _check(check: Check) -> Json:
    value = None if check.value is None else _number(check.value)
    return {
        "name": check.name,
        "value": value,
        "bound": check.bound,
        "sense": check.sense,
        "passed": check.passed,
    }


def _loss(loss: Loss) -> Json:
    return {
        "tokens": loss.tokens,
        "base_loss": _number(loss.base),
        "tuned_loss": _number(loss.tuned),
        "base_perplexity": _number(math.exp(loss.base)),
        "tuned_perplexity": _number(math.exp(loss.tuned)),
    }


def _task(result: TaskResult) -> Json:
    return {
        "name": result.task.name,
        "kind": result.task.kind,
        "questions": len(result.answered),
        "unjudged": result.unjudged,
        "base": _number(result.base),
        "tuned": _number(result.tuned),
        "answers": [_answered(one) for one in result.answered],
    }


def _answered(one: Answered) -> Json:
    return {
        "question": one.question.messages[-1]["content"],
        "base": one.base,
        "base_right": one.base_right,
        "tuned": one.tuned,
        "tuned_right": one.tuned_right,
    }


def _sample(one: Sample) -> Json:
    return {"question": one.question, "base": one.base, "tuned": one.tuned, "wanted": one.wanted}


def lines(checks: Sequence[Check]) -> list[str]:
    """The checks for a terminal."""
    return [f"{'pass' if check.passed else 'FAIL'}  {check.text}" for check in checks]
