"""Task sets: the same questions to the base and to the tuned model, and the share that each gets right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from train.evaluate.data import Question
from train.evaluate.served import Served
from train.evaluate.settings import Task

Json = dict[str, Any]

#: Answers of the base or of the tuned model to conversations.
Answer = Callable[[Sequence[Sequence[Json]], int, bool], list[str]]

_JUDGE_TOKENS = 8
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answered:
    """One question with both answers.

    Attributes:
        base_right, tuned_right: whether they are.
    """

    question: Question
    base: str
    tuned: str
    base_right: bool
    tuned_right: bool


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task went."""

    task: Task
    answered: list[Answered]

    @property
    def base(self) -> float:
        """The share that the base got right."""
        return sum(one.base_right for one in self.answered) / len(self.answered)

    @property
    def tuned(self) -> float:
        """The share that the tuned model got right."""
        return sum(one.tuned_right for one in self.answered) / len(self.answered)


def run_task(task: Task, questions: Sequence[Question], answer: Answer, served: Served | None) -> TaskResult:
    """Ask both, and judge.

    Args:
        served: where the judge is asked, for the kind ``judge``.

    Raises:
        ServedError: it cannot be asked.
    """
    conversations = [one.messages for one in questions]
    said = [answer(conversations, task.max_tokens, tuned) for tuned in (False, True)]
    if task.kind == "judge":
        assert served is not None and task.judge is not None
        right = [_judged(questions, answers, task.judge, served) for answers in said]
    else:
        right = [[is_right(task, one, text) for one, text in zip(questions, texts, strict=True)] for texts in said]
    return TaskResult(task, [Answered(*one) for one in zip(questions, *said, *right, strict=True)])


def is_right(task: Task, question: Question, text: str) -> bool:
    """Whether ``text`` is right by the rules of the task's kind."""
    right = question.right
    if task.kind == "exact":
        return _plain(text) in {_plain(one) for one in _list(right)}
    if task.kind == "contains":
        return any(" ".join(one.split()).casefold() in " ".join(text.split()).casefold() for one in _list(right))
    if task.kind == "regex":
        return re.search(right, text) is not None
    return _fits(text, right)


def _list(right: str | list[str]) -> list[str]:
    return [right] if isinstance(right, str) else right


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().removesuffix(".")


def _fits(text: str, schema: Json) -> bool:
    """Whether a text is JSON that fits; a fence around it is taken off."""
    from jsonschema.validators import validator_for

    fenced = _FENCE.fullmatch(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return bool(validator_for(schema)(schema).is_valid(value))


def _judged(questions: Sequence[Question], texts: Sequence[str], judge: str, served: Served) -> list[bool]:
    """What the judge says of each text: an answer that begins with yes is a yes, anything else is none."""
    asked = [
        [{"role": "user", "content": _JUDGE.format(question=one.messages[-1]["content"], right=one.right, text=text)}]
        for one, text in zip(questions, texts, strict=True)
    ]
    said = served.answer(judge, asked, _JUDGE_TOKENS)
    return [one.text.strip().casefold().startswith("yes") for one in said]


_JUDGE = """Question: {question}
Reference answer: {right}
Answer to judge: {text}

Does the answer to judge say the same as the reference answer? Answer with yes or no."""
