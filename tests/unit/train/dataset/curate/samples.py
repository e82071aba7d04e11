"""Rows and recipes for the tests of curation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from train.dataset.curate import How, Job, load_recipe
from train.dataset.curate.base import Context
from train.dataset.curate.outcome import Changed, Dropped, Outcome
from train.dataset.curate.registry import STEPS
from train.dataset.rows import Message, Provenance, Row

ROOT = Path(__file__).resolve().parents[5]
DEFAULT = ROOT / "configs" / "curate" / "default.yaml"
CONTEXT = Context(seed=1, topics=(), folder=DEFAULT.parent)

ANSWER = (
    "Rivers begin in the mountains, where rain and melting snow gather in small streams. "
    "These join on their way down, carve valleys into the rock, and carry sand to the sea."
)


def row(asked: str = "How do rivers form?", *answers: str, id: str = "r1", **fields: Any) -> Row:
    """A conversation: a question, then answers with a further question between each two."""
    messages: list[Message] = []
    for number, answer in enumerate(answers or (ANSWER,)):
        question = asked if number == 0 else f"And then? ({number})"
        messages += [Message(role="user", content=question), Message(role="assistant", content=answer)]
    return Row.model_validate(
        {"id": id, "source": "openai", "messages": tuple(messages), "provenance": Provenance()} | fields
    )


def many(count: int, source: str = "openai") -> list[Row]:
    """Rows that are all different."""
    words = ("tide", "granite", "lantern", "orchard", "violin", "harbour", "meadow", "copper", "winter", "signal")
    return [
        row(
            f"What about {words[n % 10]} {n * 7919}?",
            " ".join(f"{words[(n * m + m) % 10]} {n * m + 13}" for m in range(1, 25)) + ".",
            id=f"{source}:{n}",
            source=source,
        )
        for n in range(count)
    ]


def judged(step: str, subject: Row, **settings: Any) -> Outcome:
    """What a row step does with a row."""
    kind: Any = STEPS[step]
    outcome: Outcome = kind(**settings).build(CONTEXT)(subject)
    return outcome


def reason(outcome: Outcome) -> str | None:
    """Why a row was dropped, or what was changed; none where it was kept."""
    if isinstance(outcome, Dropped):
        return outcome.reason
    return "+" + ",".join(sorted(outcome.reasons)) if isinstance(outcome, Changed) else None


def write_rows(path: Path, rows: Iterable[Row]) -> str:
    """A file of rows."""
    path.write_bytes(b"".join(one.to_json() for one in rows))
    return str(path)


def write_recipe(path: Path, *steps: dict[str, Any], **fields: Any) -> str:
    """A recipe with these steps."""
    path.write_text(yaml.safe_dump({"seed": 1, "steps": list(steps), **fields}), encoding="utf-8")
    return str(path)


@contextmanager
def no_bar(title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A progress bar that shows nothing."""
    yield lambda count: None


def job(inputs: list[str], recipe: str, out: Path, *, workers: int = 0, **fields: Any) -> Job:
    """A job without a terminal."""
    loaded = load_recipe(recipe)
    return Job(inputs, loaded, out, How(loaded.context, workers, no_bar), **fields)


def rows_in(out: Path) -> list[Row]:
    """All rows of a set, by split."""
    return [
        Row.from_json(line)
        for name in ("train", "validation", "test")
        if (out / "data" / f"{name}.jsonl").exists()
        for line in (out / "data" / f"{name}.jsonl").read_bytes().splitlines()
    ]
