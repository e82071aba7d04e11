"""Markdown: prose is found by markdown-it and located in the source, of which all else stays byte for byte."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from serve.handlers.translation.document import Document, Part, Segment, edged, merged
from serve.handlers.translation.formats.markup import read_html
from serve.handlers.translation.inline import readable

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
#: What begins a footnote; each is a passage of its own, which the parser does not know.
_FOOTNOTE = re.compile(r"\[\^[^\]\n]{1,100}\]:[ \t]*")
#: What begins a passage and is none of its words: a number that markdown-it leaves in a heading or a term, or a
#: footnote's mark.
_LABEL = re.compile(rf"\d+(?:\.\d+)*[.)]?\s+|{_FOOTNOTE.pattern}")


def read_markdown(text: str) -> Document:
    """Take Markdown apart."""
    front = _FRONT_MATTER.match(text)
    start = front.end() if front else 0
    parts: list[Part] = [text[:start]] if start else []
    body = text[start:]
    lines = body.split("\n")
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line) + 1)
    end = 0
    for token in _parser().parse(body.replace("\r", " ")):
        if token.map is None or token.type not in ("inline", "html_block"):
            continue
        if token.type == "html_block":
            first, last = offsets[token.map[0]], min(offsets[token.map[1]], len(body))
            parts += [body[end:first], *read_html(body[first:last])]
            end = last
        else:
            places = max(end, offsets[token.map[0]]), offsets[token.map[1]]
            found, end = _prose(token, body, places, end)
            parts += found
    return merged([part for part in [*parts, body[end:]] if part != ""])


def _prose(token: Token, body: str, within: tuple[int, int], end: int) -> tuple[list[str | Segment], int]:
    """The segments of one inline token, whose lines are found ``within`` a part of ``body``, and where they end. What
    stands between ``end`` and them stays."""
    at, stop = within
    places: list[tuple[int, int]] = []
    for line in token.content.split("\n"):
        content = line.strip(" \t")
        if not content:
            continue
        found = body.find(content, at, stop)
        if found < 0:  # Written otherwise than it reads, as with an escaped bar in a table; it stays.
            return [], end
        at = found + len(content)
        places.append((found, at))
    parts: list[str | Segment] = []
    while places:
        run = [places.pop(0)]
        while places and not _ends(body, run[-1], places[0]):
            run.append(places.pop(0))
        parts.append(body[end : run[0][0]])
        parts += _run(body, run)
        end = run[-1][1]
    return parts, end


def _ends(body: str, line: tuple[int, int], following: tuple[int, int]) -> bool:
    """Whether a passage ends with this line of its paragraph."""
    hard = _hard_break(body[slice(*line)] + _after(body, line[1]))
    return bool(hard or _FOOTNOTE.match(body, *following))


def _after(body: str, end: int) -> str:
    """The spaces that follow a line's content."""
    return body[end : len(body) if (stop := body.find("\n", end)) < 0 else stop]


def _hard_break(line: str) -> str:
    """What ends a line that is broken there, two spaces or a backslash; nothing at other lines."""
    spaces = line[len(line.rstrip(" ")) :]
    return spaces if len(spaces) > 1 else "\\" if line.endswith("\\") else ""


def _run(body: str, run: list[tuple[int, int]]) -> list[str | Segment]:
    """Lines that are one passage."""
    start, end = run[0][0], run[-1][1]
    joins = tuple(body[before[1] : after[0]] for before, after in pairwise(run))
    text = " ".join(body[first:last] for first, last in run)
    text = text.removesuffix(tail := _hard_break(text))
    label = match[0] if (match := _LABEL.match(text)) else ""
    if len(run) > 1 and len(label) > run[0][1] - start:  # It is a line of its own.
        return [body[start : run[1][0]], *_run(body, run[1:])]
    raw = body[start + len(label) : end - len(tail)].strip()

    def segment(inner: str) -> Segment:
        return Segment(readable(inner, "markdown"), "markdown", joins, raw=raw)

    return [label, *edged(text[len(label) :], segment), tail]


@cache
def _parser() -> MarkdownIt:
    # Only where prose is counts here, not what is in it.
    return MarkdownIt("commonmark").enable("table").disable("inline")
