"""Texts cut into pieces, each small enough for a model's context and with its neighbours beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from serve.handlers.translation.document import Document, Entry, Segment, segments
from serve.handlers.translation.inline import Syntax
from serve.handlers.translation.languages import Language
from serve.handlers.translation.masks import masked
from serve.handlers.translation.plan import Plan
from serve.handlers.translation.sentences import cut
from serve.handlers.translation.source import Source

#: A text of no more characters is not cut because of what is told beside it.
_LEAST_CHARS = 80


@dataclass(frozen=True, slots=True)
class Work:
    """A piece to translate.

    Attributes:
        segment: what it is of.
        number, line: of the segment, from 0 and from 1: the line on which it begins, or its entry.
        before, after: the nearest text on both sides, as much as may be shown.
    """

    text: str
    segment: Segment
    number: int
    line: int
    before: str
    after: str


def works_of(source: Source, plan: Plan) -> list[list[Work]]:
    """The pieces of each segment, in order. Goes through all terms for each: for a thread.

    Raises:
        InvalidRequest: what the request wants told beside a piece leaves no room for it in the model's context.
    """
    if source.language is None:
        return []
    placed = [(part, line, _pieces(part, source.language, plan)) for part, line in _placed(source.document)]
    texts = ["", *(text for _, _, pieces in placed for text in pieces), ""]
    shown = _shown(plan)
    works: list[list[Work]] = []
    at = 0
    for number, (segment, line, pieces) in enumerate(placed):
        works.append([])
        for text in pieces:
            before, after = _tail(texts[at], shown), _head(texts[at + 2], shown)
            works[-1].append(Work(text, segment, number, line, before, after))
            at += 1
    return works


def _placed(document: Document) -> Iterator[tuple[Segment, int]]:
    """The segments of a document, with the line on which each begins, or its entry."""
    line = 1
    for part in document:
        if isinstance(part, Entry):
            yield from ((segment, part.line) for segment in segments(part.parts))
        elif isinstance(part, str):
            line += part.count("\n")
        else:
            yield part, line
            line += sum(join.count("\n") for join in part.joins)


def _shown(plan: Plan) -> int:
    """How many characters of a neighbour are shown; the hosted Qwen-MT has no place for them."""
    return 0 if plan.family == "qwen-mt" else plan.window.neighbour_chars(plan.behaviour.context_chars)


def _pieces(segment: Segment, language: Language, plan: Plan) -> list[str]:
    found = cut(segment.text, segment.syntax, plan.behaviour.segment_chars)
    if plan.window.tokens is None:
        return found
    return [smaller for text in found for smaller in _fitting(text, segment.syntax, language, plan)]


def _fitting(text: str, syntax: Syntax, language: Language, plan: Plan) -> list[str]:
    """``text`` in parts that the model's context holds with all that has to be told beside each."""
    shown = _shown(plan)
    # The neighbours are not known before all is cut; they are as many letters of the same kind.
    beside = (text * (shown // (len(text) or 1) + 1))[:shown]
    task = plan.task(masked(text, syntax), language, beside, beside)
    if plan.window.holds(task):
        return [text]
    halves = cut(text, syntax, max(_LEAST_CHARS, len(text) // 2))
    if len(halves) == 1:
        plan.window.check(task, plan.model)
        return halves
    return [smaller for half in halves for smaller in _fitting(half, syntax, language, plan)]


def _tail(text: str, most: int) -> str:
    """The end of ``text``, from the beginning of a word on."""
    text = text.strip()
    if len(text) <= most:
        return text
    end = text[len(text) - most :] if most else ""
    return end.partition(" ")[2] or end


def _head(text: str, most: int) -> str:
    """The beginning of ``text``, up to the end of a word."""
    text = text.strip()
    if len(text) <= most:
        return text
    start = text[:most]
    return start.rpartition(" ")[0] or start
