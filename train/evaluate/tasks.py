"""Task sets: the same questions to the base and to the tuned model, and the share that each gets right."""

from __future__ import annotations

import json
import math
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

#: Room for a judge that reasons although it is asked not to.
_JUDGE_TOKENS = 1024
#: The least share of questions on which both answers were judged; of fewer the shares say nothing.
LEAST_JUDGED = 0.9
_FIRST_WORD = re.compile(r"[^\W\d_]+")
#: Of models whose handler does not part it from the answer; it may be cut off.
_REASONING = re.compile(r"^\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answered:
    """One question with both answers.

    Attributes:
        base_right, tuned_right: whether they are; none where the judge says neither yes nor no.
    """

    question: Question
    base: str
    tuned: str
    base_right: bool | None
    tuned_right: bool | None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task went. Shares are of the questions on which both answers were judged, and not a number where these
    are too few."""

    task: Task
    answered: list[Answered]

    @property
    def base(self) -> float:
        """The share that the base got right."""
        return self._share([one.base_right is True for one in self._judged])

    @property
    def tuned(self) -> float:
        """The share that the tuned model got right."""
        return self._share([one.tuned_right is True for one in self._judged])

    @property
    def unjudged(self) -> int:
        """How many questions count for nothing."""
        return len(self.answered) - len(self._judged)

    @property
    def _judged(self) -> list[Answered]:
        return [one for one in self.answered if one.base_right is not None and one.tuned_right is not None]

    def _share(self, right: Sequence[bool]) -> float:
        if not right or len(right) < LEAST_JUDGED * len(self.answered):
            return math.nan
        return sum(right) / len(right)


def run_task(task: Task, questions: Sequence[Question], answer: Answer, served: Served | None) -> TaskResult:
    """Ask both, and judge.

    Args:
        served: where the judge is asked, for the kind ``judge``.

    Raises:
        ServedError: it cannot be asked.
    """
    conversations = [one.messages for one in questions]
    said = [answer(conversations, task.max_tokens, tuned) for tuned in (False, True)]
    right: list[list[bool | None]]
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


def _judged(questions: Sequence[Question], texts: Sequence[str], judge: str, served: Served) -> list[bool | None]:
    """What the judge says of each text."""
    asked = [
        [{"role": "user", "content": _JUDGE.format(question=one.messages[-1]["content"], right=one.right, text=text)}]
        for one, text in zip(questions, texts, strict=True)
    ]
    return [verdict(one.text) for one in served.answer(judge, asked, _JUDGE_TOKENS, thinking=False)]


def verdict(text: str) -> bool | None:
    """A judge's yes or no by the first word of its answer; none where it is neither."""
    found = _FIRST_WORD.search(_REASONING.sub("", text))
    return None if found is None else {"yes": True, "no": False}.get(found[0].casefold())


_JUDGE = """Question: {question}
Reference answer: {right}
Answer to judge: {text}

Does the answer to judge say the same as the reference answer? Answer with yes or no."""
