"""A text as its reader has taken it apart: what stays, and the segments to translate between."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from serve.handlers.translation.inline import Syntax, pieces, says_something

#: Letters of Chinese and Japanese. A line may end after any, or after a stop; small kana begin none.
_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_PLACE = re.compile(
    rf" |(?<=[{_HAN}\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f])(?=[{_HAN}])(?![\u30fc\u3041\u3043\u3063\u30c3])"
)
#: What is a mark at the beginning of a line, and a word or a sign elsewhere.
_BLOCK = re.compile(r"(?:[-+*]|#{1,6}|\d{1,9}[.)]|=+)(?:\s|\Z)|[>|]|-{2}|`{3}|~{3}|[-–—]\s")
_COLUMN = re.compile(r"(\t+ *| {2,}\t*)")


def _same(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Segment:
    """A passage that is translated as one.

    Attributes:
        text: on one line, with no space around it.
        syntax: what in it is kept.
        joins: what stood between its lines in the source; the translation is broken into as many.
        encode: writes the translation as the file has it.
        raw: how the source has it, where rendering ``text`` may give something else.
    """

    text: str
    syntax: Syntax = "text"
    joins: tuple[str, ...] = ()
    encode: Callable[[str], str] = _same
    raw: str | None = None

    @property
    def untouched(self) -> str:
        """What stands in the document where there is no translation."""
        return self.render(self.text) if self.raw is None else self.raw

    def render(self, translated: str) -> str:
        """What stands in the translated document."""
        return self.encode(_broken(translated, self.joins, self.syntax))


@dataclass(frozen=True, slots=True)
class Entry:
    """What is translated whole or not at all: in part, it would pass for finished.

    Attributes:
        parts: of its translation.
        raw: what stands there where a passage of it has none.
        line: on which it begins in the source, from 1.
    """

    parts: tuple[str | Segment, ...]
    raw: str
    line: int


Part = str | Segment | Entry
#: What stays as it is, and what is translated, in the document's order.
Document = Sequence[Part]


def segments(document: Document) -> Iterator[Segment]:
    """What is to be translated, in the document's order."""
    for part in document:
        if isinstance(part, Entry):
            yield from segments(part.parts)
        elif isinstance(part, Segment):
            yield part


def edged(text: str, segment: Callable[[str], Segment]) -> list[str | Segment]:
    """``text`` with the space around it apart; as it is where nothing in it is to be translated."""
    inner = text.strip()
    if not says_something(inner):
        return [text] if text else []
    before, _, after = text.partition(inner)
    return [part for part in (before, segment(inner), after) if part != ""]


def columns(line: str, segment: Callable[[str], Segment]) -> list[str | Segment]:
    """A line of text, of which tabs and runs of spaces stay: they are columns."""
    return [part for cell in _COLUMN.split(line) for part in edged(cell, segment)]


def merged(parts: Document) -> list[Part]:
    """``parts`` with neighbouring texts joined."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(last := found[-1], str):
            found[-1] = last + part
        else:
            found.append(part)
    return found


def _broken(text: str, joins: tuple[str, ...], syntax: Syntax) -> str:
    """``text`` broken into one more line than there are ``joins``, of about the same length; into fewer where it has
    not enough places for that."""
    if not joins:
        return text
    places = _places(text, syntax)
    chosen: list[tuple[int, int]] = []
    free = 0
    for left in range(len(joins), 0, -1):
        last = max(free, len(places) - left)  # So that every line after this one finds a place.
        if free == len(places):
            break
        wanted = len(text) * (len(joins) - left + 1) / (len(joins) + 1)
        after = bisect_left(places, (wanted, 0), free, last)
        near = [index for index in (after - 1, after) if index >= free]
        best = min(near, key=lambda index: abs(places[index][0] - wanted))
        chosen.append(places[best])
        free = best + 1
    starts = [0, *(start for _, start in chosen)]
    lines = [text[start:end] for start, end in zip(starts, [*(end for end, _ in chosen), len(text)], strict=True)]
    return lines[0] + "".join(join + line for join, line in zip(joins, lines[1:], strict=False))


def _places(text: str, syntax: Syntax) -> list[tuple[int, int]]:
    """Where a line may end and the next begin: at spaces, and between letters of scripts that have none, outside of
    what is kept; never where the next line would look like a list, a heading or a quotation."""
    places: list[tuple[int, int]] = []
    at = 0
    for piece in pieces(text, syntax):
        if not piece.kept:
            found = ((at + place.start(), at + place.end()) for place in _PLACE.finditer(piece.text))
            places += [(end, start) for end, start in found if not _BLOCK.match(text, start)]
        at += len(piece.text)
    return places
