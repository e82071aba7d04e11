"""A text as its reader has taken it apart: what stays, and the segments to translate between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serve.handlers.translation.inline import Syntax, pieces, says_something


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
    """

    text: str
    syntax: Syntax = "text"
    joins: tuple[str, ...] = ()
    encode: Callable[[str], str] = _same

    def render(self, translated: str) -> str:
        """What stands in the translated document."""
        return self.encode(_broken(translated, self.joins, self.syntax))


#: What stays as it is, and what is translated, in the document's order.
Document = Sequence[str | Segment]


def edged(text: str, segment: Callable[[str], Segment]) -> list[str | Segment]:
    """``text`` with the space around it apart; as it is where nothing in it is to be translated."""
    inner = text.strip()
    if not says_something(inner):
        return [text] if text else []
    before, _, after = text.partition(inner)
    return [part for part in (before, segment(inner), after) if part != ""]


def merged(parts: Sequence[str | Segment]) -> list[str | Segment]:
    """``parts`` with neighbouring texts joined."""
    found: list[str | Segment] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


def _broken(text: str, joins: tuple[str, ...], syntax: Syntax) -> str:
    """``text`` broken at spaces into one more line than there are ``joins``, of about the same length; into fewer
    where it has not enough spaces outside of what is kept."""
    if not joins:
        return text
    places, at = [], 0
    for piece in pieces(text, syntax):
        if not piece.kept:
            places += [at + index for index, char in enumerate(piece.text) if char == " "]
        at += len(piece.text)
    ends: list[int] = []
    for number in range(1, len(joins) + 1):
        wanted = len(text) * number / (len(joins) + 1)
        free = [place for place in places if not ends or place > ends[-1]]
        if free:
            ends.append(min(free, key=lambda place: abs(place - wanted)))
    starts = [0, *(end + 1 for end in ends)]
    lines = [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True)]
    return lines[0] + "".join(join + line for join, line in zip(joins, lines[1:], strict=False))
