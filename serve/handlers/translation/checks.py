"""What is wrong with a translation, as far as it can be told without knowing the languages."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from serve.handlers.translation.languages import Language
from serve.handlers.translation.masks import MARK, Masked
from serve.handlers.translation.scripts import script_counts, scripts_of
from serve.protocol.translation import Pair

Kind = Literal["placeholder", "term", "number", "untranslated", "length"]

_NUMBER = re.compile(r"\d+")
_LOOP = re.compile(r"(.{1,20}?)\1{9,}")
#: A translation may be this many times longer than its source, or shorter, before something is wrong: Chinese says
#: in one character what takes English four.
_LONGER, _SHORTER = 6.0, 9.0
_SLACK = 24


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a translation.

    Attributes:
        type: what kind of thing.
        source: what the source has. target: what was wanted in its place, of a term.
    """

    type: Kind
    source: str
    target: str | None = None

    def body(self) -> dict[str, Any]:
        """As an answer reports it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def faults(masked: Masked, answer: str, terms: Sequence[Pair], source: Language, target: Language) -> list[Fault]:
    """The faults of ``answer``, the gravest first."""
    found = [Fault("placeholder", held) for held in masked.missing(answer)]
    found += [Fault("placeholder", held) for held in masked.invented(answer)]
    plain, said = MARK.sub(" ", masked.text), MARK.sub(" ", answer)
    if not _is_translated(plain, said, source, target):
        found.append(Fault("untranslated", masked.text[:120]))
    elif not len(plain) / _SHORTER - _SLACK <= len(said) <= len(plain) * _LONGER + _SLACK:
        found.append(Fault("length", masked.text[:120]))
    found += [Fault("term", term.source, term.target) for term in terms if not has_term(said, term.target)]
    lost = Counter(_numbers(plain)) - Counter(_numbers(said))
    return found + [Fault("number", number) for number in lost]


class Terms:
    """The terms of one request."""

    def __init__(self, terms: Sequence[Pair]) -> None:
        longest_first = sorted(terms, key=lambda one: -len(one.source))
        self._terms = list({term.source.casefold(): term for term in reversed(longest_first)}.items())[::-1]

    def within(self, text: str) -> list[Pair]:
        """Those whose source stands in ``text``, the longest of those that overlap."""
        found: list[Pair] = []
        folded, taken = text.casefold(), ""
        for source, term in self._terms:
            if _stands(folded, source) and source not in taken:
                found.append(term)
                taken += f"\n{source}"
        return found


def has_term(text: str, term: str) -> bool:
    """Whether ``term`` stands in ``text``, case aside; at a word's beginning where its script has spaces."""
    return _stands(text.casefold(), term.casefold())


def _stands(text: str, term: str) -> bool:
    at = text.find(term)
    if at <= 0 or not _is_word(term[0]) or script_counts(term).keys() & _DENSE:
        return at >= 0
    while at > 0 and _is_word(text[at - 1]):
        at = text.find(term, at + 1)
    return at >= 0


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


_DENSE = {"Han", "Kana", "Thai", "Lao", "Khmer", "Myanmar"}


def _is_translated(plain: str, said: str, source: Language, target: Language) -> bool:
    counts = script_counts(said)
    letters = sum(counts.values())
    # A small model can fall into a loop: signs without words, or the same words again and again.
    if not letters or (_is_odd(said) and not _is_odd(plain)):
        return False
    wanted = scripts_of(target.code)
    if target.code in ("ja", "ko"):
        wanted |= {"Han"}
    if not wanted & scripts_of(source.code) and sum(counts[name] for name in wanted) * 2 < letters:
        return False
    same = plain.split() == said.split()
    # Names and single words are the same in many languages.
    return not (same and len(plain.split()) > 2)


def _is_odd(text: str) -> bool:
    """Whether a text is hardly letters, or the same thing many times in a row."""
    return sum(script_counts(text).values()) * 3 < len("".join(text.split())) or _LOOP.search(text) is not None


def _numbers(text: str) -> list[str]:
    """Runs of digits, in any script's digits; separators of thousands differ between languages and are left out."""
    joined = re.sub(r"(?<=\d)[.,'’\u00a0\u202f ٬٫](?=\d{3}\b)", "", text)
    return ["".join(str(unicodedata.digit(char)) for char in run) for run in _NUMBER.findall(joined)]
