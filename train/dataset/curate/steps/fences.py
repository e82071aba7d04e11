"""Answers with a code block that is never closed."""

from __future__ import annotations

from typing import Literal

from train.dataset.curate.base import AnswerStep, Context
from train.dataset.curate.outcome import Outcome, RowFunction, judge_answers
from train.dataset.curate.text import parts
from train.dataset.rows import Message, Row


class Fences(AnswerStep):
    """Find open code fences, after CommonMark's rules."""

    step: Literal["fences"] = "fences"

    def build(self, context: Context) -> RowFunction:
        """Judge each answer."""

        def fault(_: int, message: Message) -> str | None:
            return "open_fence" if parts(message.content or "").open else None

        def judge(row: Row) -> Outcome:
            return judge_answers(row, fault, self.on_match)

        return judge
