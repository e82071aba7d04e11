"""Is what a model wrote what it was asked for? Judged without another model, so meaning is not."""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum

from train.dataset.augment.settings import AugmentSettings
from train.dataset.curate.steps.language import language_of
from train.dataset.rows import Message, Provenance, Row

#: Fewer letters than this say little about their language.
_ENOUGH_LETTERS = 20
_SURE = 0.5

#: What has to be in a copy as it is: code, addresses, placeholders (``[EMAIL_1]``, ``{{name}}``, ``{0}``, ``%s``,
#: ``<b>``).
_KEPT = re.compile(
    r"""
    ^[ \t]*(?P<fence>`{3,}|~{3,}).*?^[ \t]*(?P=fence)[ \t]*$
    | `[^`\n]+`
    | https?://[^\s)>\]]+
    | [\w.+-]+@[\w-]+\.[\w.-]+\w
    | \[[A-Z][A-Z0-9_]*\]
    | \{\{[^{}\n]*\}\} | \{\w*\} | \$\{\w+\}
    | %(?:\(\w+\))?[sdif](?!\w)
    | </?[A-Za-z][^<>\n]*>
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)


class Refused(StrEnum):
    """What is wrong with what the model wrote, for counting."""

    EMPTY = "empty"
    CUT_OFF = "cut_off"
    """It reached the limit of tokens."""
    IDENTICAL = "identical"
    """It says the same in the same words."""
    LENGTH = "length"
    """It is much shorter or longer than what it was made of."""
    PIECES = "pieces"
    """Code, an address or a placeholder is missing, changed or new."""
    LANGUAGE = "language"
    """It is in another language than it should be."""
    REQUEST = "request"
    """The server does not take the request, as when the text is longer than the model's context."""


def refused(original: str, written: str, settings: AugmentSettings, language: str | None) -> Refused | None:
    """Why a text cannot take the original's place; none where it can.

    Args:
        language: that of translations; none where it has to stay that of the original.
    """
    if not written.strip():
        return Refused.EMPTY
    if _plain(written) == _plain(original):
        return Refused.IDENTICAL
    if not settings.shortest <= len(written) / len(original) <= settings.longest:
        return Refused.LENGTH
    if pieces_in(written) != pieces_in(original):
        return Refused.PIECES
    found = _language(written)
    wanted = language or _language(original)
    return Refused.LANGUAGE if found is not None and wanted is not None and found != wanted else None


def pieces_in(text: str) -> Counter[str]:
    """What has to stay as it is, and how often it is there."""
    return Counter(found[0].strip() for found in _KEPT.finditer(text))


def has_words(text: str) -> bool:
    """Whether there is anything in a text that can be said otherwise."""
    return any(character.isalpha() for character in _KEPT.sub(" ", text))


def _plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def _language(text: str) -> str | None:
    """The language of a text; none where it is too short to tell."""
    found = language_of(_as_row(text))
    return found.code if found.letters >= _ENOUGH_LETTERS and found.confidence >= _SURE else None


def _as_row(text: str) -> Row:
    # What a conversation is in is told from what both sides say.
    messages = (Message(role="user", content=text), Message(role="assistant", content="."))
    return Row(id="text", source="openai", messages=messages, provenance=Provenance())
