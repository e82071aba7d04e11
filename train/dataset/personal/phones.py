"""Phone numbers, as Google's libphonenumber knows the world's numbering plans (https://github.com/daviddrysdale/python-phonenumbers)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import phonenumbers
from phonenumbers import Leniency, PhoneNumberFormat, PhoneNumberMatcher

from train.dataset.personal.spans import Span, stands_alone

_BEFORE = 40
_WORDS = re.compile(
    r"phone|\btel\b|\btel[.:]|t[eé]l[eé]fo|telefon|\bmob(?:ile|il|iel)?\b|handy|\bmy cell|cell:|whats ?app|\bsms\b"
    r"|\b(?:call|ring|text|dial|reach) (?:me|us|him|her|them|at|on)\b|appel|m[oó]vil|celular"
    r"|\bfax\b|ligue|rufnummer|numero di"
    r"|电话|電話|手机|手機|携帯|전화|휴대폰|телефон|\bтел\b|мобил|звон|هاتف|جوال|موبايل|تلفون|טלפון|נייד|फ़ोन|फोन|मोबाइल|โทร",  # noqa: RUF001
    re.IGNORECASE,
)
#: Digits in groups as people write phone numbers: an area code in brackets or with its 0, or three, three and four.
_GROUPED = re.compile(
    r"(?<![0-9:.,/-])(?:"
    r"(?:\(0?[1-9][0-9]{1,4}\) ?|0[1-9][0-9]{0,4}[ /-])[0-9]{2,8}(?:[ ./-][0-9]{2,6}){0,3}"
    r"|0[1-9][0-9]{0,2}(?:\.[0-9]{2,4}){2,4}"
    r"|[2-9][0-9]{2}([ .-])[0-9]{3}\1[0-9]{4})(?![0-9])"
)
_DATE = re.compile(r"[0-9]{4}[-/. ][0-9]{1,2}[-/. ][0-9]{1,2}|[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ](?:[0-9]{4}|[0-9]{2})")
_LEAST_DIGITS = 7


def phones(text: str, start: int, end: int, regions: Sequence[str]) -> Iterator[Span]:
    """Phone numbers of a part of the text.

    With a country code, what the numbering plan of the country has. Without, numbers of ``regions``: after a word
    that says what it is, or written in the groups that are usual there.
    """
    window = text[start:end]
    if "+" in window:
        yield from _matches(text, start, end, None, Leniency.VALID)
    named = _WORDS.search(text, max(start - _BEFORE, 0), end) is not None
    if not named and _GROUPED.search(window) is None:
        return
    leniency = Leniency.VALID if named else Leniency.STRICT_GROUPING
    taken: list[Span] = []
    for region in regions:
        for span in _matches(text, start, end, region, leniency):
            # What is a number in several regions is one of the first of them.
            if all(span.end <= other.start or other.end <= span.start for other in taken) and _believable(text, span):
                taken.append(span)
    yield from taken


def _matches(text: str, start: int, end: int, region: str | None, leniency: int) -> Iterator[Span]:
    for match in PhoneNumberMatcher(text[start:end], region, leniency):
        first, last = start + match.start, start + match.end
        # The matcher has not seen what is around the window.
        if stands_alone(text, first, last):
            yield Span(first, last, "phone", phonenumbers.format_number(match.number, PhoneNumberFormat.E164))


def _believable(text: str, span: Span) -> bool:
    """Whether a word before says that it is a phone number, or else it is written in groups as one."""
    if _WORDS.search(text, max(span.start - _BEFORE, 0), span.start):
        return True
    written = text[span.start : span.end]
    grouped = _GROUPED.match(text, span.start)
    if grouped is None or grouped.end() != span.end or _DATE.fullmatch(written) is not None:
        return False
    return sum(map(str.isdigit, written)) > _LEAST_DIGITS
