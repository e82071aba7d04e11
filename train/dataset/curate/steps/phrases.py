"""Steps that look for phrases of a list: refusals, apologies, boilerplate, toxicity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from serve.settings.errors import SettingsError
from train.dataset.curate.base import AnswerStep, Context, Count
from train.dataset.curate.outcome import KEPT, Dropped, Outcome, RowFunction, judge_answers
from train.dataset.curate.text import UNSPACED, parts
from train.dataset.rows import Message, Row

_SPACED = re.compile(rf"[^\W{UNSPACED}]")
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u02bc\u0060", "'"))


class Phrases(AnswerStep):
    """A list of phrases.

    Attributes:
        phrases: the file of the list: a phrase a line, ``#`` begins a comment. Case, apostrophes and the width of
            spaces do not matter, and a phrase begins and ends where a word does.
        within: phrases count that begin within so many characters of prose; 0 for anywhere in it.
    """

    phrases: str
    within: Count = 0

    def files(self, context: Context) -> list[Path]:
        """The list."""
        return [context.folder / self.phrases]

    def build(self, context: Context) -> RowFunction:
        """Judge each answer."""
        known = read_phrases(context.folder / self.phrases)

        def fault(message: Message) -> str | None:
            starts = known.starts(normal(parts(message.content or "").prose))
            return self.step if any(not self.within or start < self.within for start in starts) else None

        def judge(row: Row) -> Outcome:
            return judge_answers(row, lambda _, message: fault(message), self.on_match)

        return judge


class Refusals(Phrases):
    """Find answers that refuse to help."""

    step: Literal["refusals"] = "refusals"
    phrases: str = "words/refusals.txt"
    within: Count = 300


class Apologies(Phrases):
    """Find answers that begin with an apology."""

    step: Literal["apologies"] = "apologies"
    phrases: str = "words/apologies.txt"
    within: Count = 30


class Boilerplate(Phrases):
    """Find answers in which the model talks of itself: what it is, what it cannot know."""

    step: Literal["boilerplate"] = "boilerplate"
    phrases: str = "words/boilerplate.txt"


class Toxicity(Phrases):
    """Find hostile words, in what anybody says.

    Attributes:
        roles: whose messages are looked at. A hit in an answer is treated as ``on_match`` says, one elsewhere drops
            the conversation.
        hits_min: phrases in one message from which on it counts.
    """

    step: Literal["toxicity"] = "toxicity"
    phrases: str = "words/toxic.txt"
    on_match: Literal["mask", "drop"] = "drop"
    roles: Annotated[tuple[Literal["user", "assistant", "system", "tool"], ...], Field(strict=False)] = (
        "user",
        "assistant",
    )
    hits_min: Annotated[int, Field(ge=1)] = 1

    def build(self, context: Context) -> RowFunction:
        """Judge each message of the roles."""
        known = read_phrases(context.folder / self.phrases)

        def fault(message: Message) -> str | None:
            starts = known.starts(normal(message.content or ""))
            hits = sum(not self.within or start < self.within for start in starts)
            return "toxicity" if hits >= self.hits_min else None

        def judge(row: Row) -> Outcome:
            for message in row.messages:
                if message.role != "assistant" and message.role in self.roles and fault(message):
                    return Dropped("toxicity")
            if "assistant" not in self.roles:
                return KEPT
            return judge_answers(row, lambda _, message: fault(message), self.on_match)

        return judge


def normal(text: str) -> str:
    """``text`` as phrases are compared: case, apostrophes and spaces made equal."""
    return " ".join(text.translate(_APOSTROPHES).casefold().split())


class PhraseList:
    """Phrases that are looked for in ``normal`` text, where they begin and end as words do."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._known = sorted({normal(phrase) for phrase in phrases} - {""})

    def starts(self, text: str) -> Iterator[int]:
        """Where the phrases begin in ``text``, in no order."""
        for phrase in self._known:
            # Most are not there at all, which this tells at the speed of memory.
            start = text.find(phrase)
            while start >= 0:
                if _apart(text, start) and _apart(text, start + len(phrase)):
                    yield start
                start = text.find(phrase, start + 1)

    def found(self, text: str) -> bool:
        """Whether one of the phrases is in ``text``."""
        return next(self.starts(text), None) is not None


def read_phrases(path: Path) -> PhraseList:
    """The phrases of a list; an empty list finds nothing.

    Raises:
        SettingsError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"phrases: {path} cannot be read as a list of phrases") from error
    return PhraseList(line for line in lines if not line.lstrip().startswith("#"))


def _apart(text: str, place: int) -> bool:
    """Whether no word goes on over ``place``; scripts without spaces have no such words."""
    return not (0 < place < len(text) and _SPACED.match(text[place - 1]) and _SPACED.match(text[place]))
