"""Subtitles, SubRip and WebVTT: the text of each cue is a segment; numbers, times, settings and notes stay."""

from __future__ import annotations

import re

from serve.errors import InvalidRequest
from serve.handlers.translation.document import Document, Segment, merged
from serve.handlers.translation.formats.markup import LINE_END
from serve.handlers.translation.inline import says_something

_TIMES = re.compile(r"[ \t]*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}[ \t]*-->.*")
_BLANK = re.compile(r"(\r?\n(?:[ \t]*\r?\n)+)")
#: Where a cue is shown, and who speaks, in front of what is said.
_FRONT = re.compile(r"(?:\s|\{\\[^}]*\}|<v[ .][^>]*>|[-–—]\s)*")


def read_subtitles(text: str) -> Document:
    """Take subtitles apart.

    Raises:
        InvalidRequest: there is no cue in them.
    """
    if not any(map(_TIMES.match, text.splitlines())):
        raise InvalidRequest("The text has no subtitles: no line with `start --> end`.", code="invalid_subtitles")
    parts: list[str | Segment] = []
    for index, block in enumerate(_BLANK.split(text)):
        parts += [block] if index % 2 else _cue(block)
    return merged([part for part in parts if part != ""])


def _cue(block: str) -> list[str | Segment]:
    lines = block.splitlines(keepends=True)
    times = next((number for number, line in enumerate(lines) if _TIMES.match(line)), None)
    if times is None:
        return [block]
    said = "".join(lines[times + 1 :])
    front = match[0] if (match := _FRONT.match(said)) else ""
    words = said[len(front) :].rstrip()
    after = said[len(front) + len(words) :]
    if not says_something(words):
        return [block]
    # A dash begins what another person says.
    turns = re.split(r"(\r?\n[-–—]\s*)", words)
    segments: list[str | Segment] = []
    for index, turn in enumerate(turns):
        segments += [turn] if index % 2 or not says_something(turn) else [_segment(turn)]
    return ["".join(lines[: times + 1]), front, *segments, after]


def _segment(turn: str) -> Segment:
    return Segment(LINE_END.sub(" ", turn), "text", tuple(LINE_END.findall(turn)), raw=turn)
