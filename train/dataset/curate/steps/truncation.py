"""Answers that end in the middle."""

from __future__ import annotations

import re
from typing import Literal

from train.dataset.curate.base import AnswerStep, Context, Count
from train.dataset.curate.outcome import Outcome, RowFunction, judge_answers
from train.dataset.curate.text import UNSPACED, parts
from train.dataset.rows import Message, Row

# Lists, headings, quotes, tables, formulas: their lines end without a full stop.
_NO_SENTENCE = re.compile(r"\s*(?:[-*+\u2022\u2013]\s|\d+[.)]\s|#|>|\||\$|\\|\[\^?\w+\]:)")
_ADDRESS = re.compile(r"\S*(?:://|www\.|@)\S*$")
_BREAKS_OFF = re.compile(r"[,;(\[{\u201c\u2018\u00ab\u2014\u2013]$")
_LETTER = re.compile(rf"[^\W\d_{UNSPACED}]$")


class Truncation(AnswerStep):
    """Find a last answer that breaks off: its last line is a sentence, and has no end.

    Lines of lists, tables, headings and code, addresses, and scripts that need no full stop are not judged.

    Attributes:
        chars_min: shorter answers are not judged.
        line_words_min: nor are those whose last line has fewer words: signatures, titles, single words.
    """

    step: Literal["truncation"] = "truncation"
    chars_min: Count = 200
    line_words_min: Count = 6

    def build(self, context: Context) -> RowFunction:
        """Judge the last answer."""

        def judge(row: Row) -> Outcome:
            last = len(row.messages) - 1
            return judge_answers(
                row, lambda place, message: self._fault(message) if place == last else None, self.on_match
            )

        return judge

    def _fault(self, message: Message) -> str | None:
        text = (message.content or "").rstrip()
        if len(text) < self.chars_min or message.tool_calls:
            return None
        found = parts(text)
        if found.ends_in_code or found.open:
            return None
        line = found.prose.rstrip().rsplit("\n", 1)[-1]
        if _NO_SENTENCE.match(line) or _ADDRESS.search(line) or len(line.split()) < self.line_words_min:
            return None
        return "cut_off" if _BREAKS_OFF.search(line) or _LETTER.search(line) else None
