"""Steps that look for phrases of a list: refusals, apologies, boilerplate, toxicity."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from serve.settings.errors import SettingsError
from train.dataset.curate.base import AnswerStep, Context, Count
from train.dataset.curate.outcome import KEPT, Dropped, Outcome, RowFunction, judge_answers
from train.dataset.curate.text import UNSPACED, parts
from train.dataset.rows import Message, Row

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
        pattern = read_phrases(context.folder / self.phrases)

        def fault(message: Message) -> str | None:
            text = normal(parts(message.content or "").prose)
            found = pattern.search(text)
            return self.step if found and (not self.within or found.start() < self.within) else None

        def judge(row: Row) -> Outcome:
            return judge_answers(row, lambda _, message: fault(message), self.on_match)

        return judge


class Refusals(Phrases):
    """Find answers that refuse."""

    step: Literal["refusals"] = "refusals"
    phrases: str = "words/refusals.txt"
    within: Count = 300


class Apologies(Phrases):
    """Find answers that begin with an apology."""

    step: Literal["apologies"] = "apologies"
    phrases: str = "words/apologies.txt"
    within: Count = 80


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
        pattern = read_phrases(context.folder / self.phrases)

        def fault(message: Message) -> str | None:
            hits = [hit.start() for hit in pattern.finditer(normal(message.content or ""))]
            counted = [start for start in hits if not self.within or start < self.within]
            return "toxicity" if len(counted) >= self.hits_min else None

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


def read_phrases(path: Path) -> re.Pattern[str]:
    """The phrases of a list as one pattern for ``normal`` text; an empty list matches nothing.

    Raises:
        SettingsError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"phrases: {path} cannot be read as a list of phrases") from error
    known = sorted({normal(line) for line in lines if not line.lstrip().startswith("#")} - {""}, key=_longest_first)
    return re.compile("|".join(map(bounded, known)) or r"(?!)")


def _longest_first(phrase: str) -> tuple[int, str]:
    return -len(phrase), phrase


def bounded(phrase: str) -> str:
    """The phrase as a pattern that does not match within a word, where its script knows words."""
    spaced = rf"[^\W{UNSPACED}]"
    before = rf"(?<!{spaced})" if re.match(spaced, phrase) else ""
    after = rf"(?!{spaced})" if re.search(rf"{spaced}$", phrase) else ""
    return before + re.escape(phrase) + after
