"""Places in a text where something was found, and the text in a form in which finding is easy."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from train.dataset.personal.settings import Kind

#: Where two findings overlap, the kind that comes first here is what it is.
_RANK: dict[Kind, int] = {kind: rank for rank, kind in enumerate(get_args(Kind))}

_SPACES = "\u00a0\u2007\u202f\u3000"
_HYPHENS = "\u2010\u2011\u2012\u2013\u2212"
_WIDE = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_DIGITS = {
    chr(code): str(unicodedata.digit(chr(code)))
    for code in range(0x80, 0x1FBFA)
    if unicodedata.category(chr(code)) == "Nd"
}
_PLAIN = {**dict.fromkeys(_SPACES, " "), **dict.fromkeys(_HYPHENS, "-"), **_WIDE, **_DIGITS}
_FOREIGN = re.compile(f"[{''.join(map(re.escape, _PLAIN))}]")


@dataclass(frozen=True, slots=True)
class Span:
    """A finding.

    Attributes:
        start, end: where it is in the text.
        value: what was found, in a form that is the same however it is written; never shown to anyone.
    """

    start: int
    end: int
    kind: Kind
    value: str


def plain(text: str) -> str:
    """The same text, of the same length, with the digits, spaces and hyphens of all scripts as ASCII has them."""
    if text.isascii() or _FOREIGN.search(text) is None:
        return text
    return _FOREIGN.sub(lambda found: _PLAIN[found[0]], text)


def apart(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, with those that overlap joined: the whole place is then of the kind that ranks first."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        if joined and span.start < joined[-1].end:
            before = joined[-1]
            first = min(before, span, key=lambda one: _RANK[one.kind])
            joined[-1] = Span(before.start, max(before.end, span.end), first.kind, first.value)
        else:
            joined.append(span)
    return joined


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no ASCII letter, digit or ``_`` touches the place.

    Letters of other scripts may: Chinese, Japanese and Thai are written without spaces.
    """
    around = text[max(start - 1, 0) : start] + text[end : end + 1]
    return not any(char == "_" or (char.isascii() and char.isalnum()) for char in around)


def whole_number(text: str, start: int, end: int) -> bool:
    """Whether the place stands alone and is no part of a decimal number, a UUID or another hyphenated number."""
    before, after = text[max(start - 2, 0) : start], text[end : end + 2]
    if not stands_alone(text, start, end) or before[-1:] == "-" or after[:1] == "-":
        return False
    # A full stop or a comma may follow, or stand before, where it is not inside of a number.
    return not (before[-1:] in (".", ",") and before[:1].isdigit()) and not (
        after[:1] in (".", ",") and after[1:].isdigit()
    )
