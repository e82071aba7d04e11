"""Where a long text may be cut: after sentences, else after clauses, else between words; never in what is kept."""

from __future__ import annotations

import re

from serve.handlers.translation.inline import Syntax, pieces

#: From the best place to cut to the worst. A single letter or a number before a full stop is an abbreviation.
_CUTS = (
    re.compile(
        r"(?<=[.!?…؟۔।॥։။])(?<!\b[A-Za-zА-Яа-я]\.)(?<!\b(?:Mr|Ms|Dr|St|vs|No)\.)(?<!\b(?:Mrs|etc)\.)(?<!\b(?:e\.g|i\.e)\.)"
        r"[\"'”’»)\]]*(?=\s)|(?<=[。！？｡])[」』”）]*"
    ),
    re.compile(r"(?<=[;:,،؛])(?=\s)|(?<=[；：，、])"),
    re.compile(r"(?<=\S)(?=\s)"),
    re.compile(r""),
)


def cut(text: str, syntax: Syntax, limit: int) -> list[str]:
    """``text`` in parts of at most ``limit`` characters, as long as can be; joined, they are the text again. What
    is kept is never cut, even where it alone is longer."""
    return _cut(text, syntax, limit, 0)


def sentences(text: str, syntax: Syntax) -> list[str]:
    """The sentences of ``text``, the space after each with it; joined, they are the text again."""
    return _at(text, syntax, 0)


def _cut(text: str, syntax: Syntax, limit: int, level: int) -> list[str]:
    if len(text) <= limit or level == len(_CUTS):
        return [text]
    found: list[str] = []
    for part in _at(text, syntax, level):
        if found and len(found[-1]) + len(part) <= limit:
            found[-1] += part
        else:
            found.append(part)
    return [smaller for part in found for smaller in _cut(part, syntax, limit, level + 1)]


def _at(text: str, syntax: Syntax, level: int) -> list[str]:
    """``text`` cut at every place of a level; space goes with what is before it."""
    free: set[int] = set()
    at = 0
    for piece in pieces(text, syntax):
        if not piece.kept:
            free |= {at + found.end() for found in _CUTS[level].finditer(piece.text)}
            free.discard(at)
        at += len(piece.text)
    ends: list[int] = []
    for place in sorted(free):
        if not ends or place > ends[-1]:
            ends.append(_past_space(text, place))
    ends = [end for end in ends if 0 < end < len(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _past_space(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place
