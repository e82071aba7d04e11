"""Answers that say nothing, or only what was asked."""

from __future__ import annotations

import re
from typing import Literal

from train.dataset.curate.base import AnswerStep, Context
from train.dataset.curate.outcome import Dropped, Outcome, RowFunction, judge_answers, learned
from train.dataset.curate.text import words
from train.dataset.rows import Message, Row

# What the exports put in the place of pictures, sound, video and files.
_MARK = re.compile(r"\[(?:image|audio|video|file(?:: [^\]\n]*)?)\]")


class Echo(AnswerStep):
    """Find answers that are empty, are marks of pictures or files only, or repeat the question word by word."""

    step: Literal["echo"] = "echo"

    def build(self, context: Context) -> RowFunction:
        """Judge each answer against the message before it."""

        def judge(row: Row) -> Outcome:
            if not any(map(learned, row.messages)):
                return Dropped("nothing_to_learn")
            return judge_answers(row, lambda place, message: _fault(message, _asked(row, place)), self.on_match)

        return judge


def _asked(row: Row, place: int) -> str:
    """What the user said last before the message at ``place``."""
    before = (row.messages[index] for index in range(place - 1, -1, -1))
    return next((message.content or "" for message in before if message.role == "user"), "")


def _fault(message: Message, question: str) -> str | None:
    if message.tool_calls:
        return None
    answer = (message.content or "").strip()
    if not answer:
        return "empty_answer"
    if not _MARK.sub("", answer).strip():
        return "only_marks"
    return "echo" if answer == question.strip() or (words(answer) == words(question) != []) else None
