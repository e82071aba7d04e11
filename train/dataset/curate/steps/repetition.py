"""Answers that go round in circles."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from train.dataset.curate.base import AnswerStep, Context, Count, Share
from train.dataset.curate.outcome import Outcome, RowFunction, judge_answers, learned
from train.dataset.curate.text import parts, words
from train.dataset.rows import Message, Row


class Repetition(AnswerStep):
    """Find repetition outside of code, by the measures of Rae et al. 2021 (arXiv 2112.11446, table A1), on words.

    Attributes:
        ngram: words in a sequence.
        share: the largest share of words that lie in a sequence that came before.
        lines: the largest share of lines that came before.
        words_min, lines_min: shorter answers are not held to the one and to the other.
        same_answer: whether an answer that says again what an earlier one said counts, from ``words_min`` words on.
    """

    step: Literal["repetition"] = "repetition"
    ngram: Annotated[int, Field(ge=2)] = 8
    share: Share = 0.3
    lines: Share = 0.5
    words_min: Count = 40
    lines_min: Count = 8
    same_answer: bool = True

    def build(self, context: Context) -> RowFunction:
        """Judge each answer."""

        def judge(row: Row) -> Outcome:
            again = self._again(row) if self.same_answer else set()
            return judge_answers(
                row, lambda place, message: "same_answer" if place in again else self._fault(message), self.on_match
            )

        return judge

    def _fault(self, message: Message) -> str | None:
        text = parts(message.content or "").prose
        lines = [line for line in map(str.strip, text.split("\n")) if line]
        if len(lines) >= self.lines_min and 1 - len(set(lines)) / len(lines) > self.lines:
            return "repeated_lines"
        found = words(text)
        if len(found) >= self.words_min and repeated_share(found, self.ngram) > self.share:
            return "repeated_words"
        return None

    def _again(self, row: Row) -> set[int]:
        """The places of answers that were given before."""
        seen: set[str] = set()
        again = set()
        for place, message in enumerate(row.messages):
            text = (message.content or "").strip()
            if learned(message) and text and len(text.split()) >= self.words_min:
                if text in seen:
                    again.add(place)
                seen.add(text)
        return again


def repeated_share(found: list[str], size: int) -> float:
    """The share of words that lie in a sequence of ``size`` words which came before."""
    seen: set[tuple[str, ...]] = set()
    covered = end = 0
    for start, gram in enumerate(zip(*(found[offset:] for offset in range(size)), strict=False)):
        if gram in seen:
            covered += start + size - max(start, end)
            end = start + size
        else:
            seen.add(gram)
    return covered / len(found) if found else 0.0
