"""Perplexity: threads as JSON, of its data export, its page's interface and the tools that use that; and Markdown.

A thread in Markdown comes from ``markdown.py`` as the same JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson

from train.dataset.exports.problems import Reason, Unusable
from train.dataset.exports.reader import Draft, ReadOptions
from train.dataset.exports.turns import Turns
from train.dataset.exports.values import moment, name_of, record, records, text_of
from train.dataset.rows import SourceName

Json = dict[str, Any]

# Numbers that point into a list of sources, which is not part of a row: [1], [^1_2]; and addresses in the page.
_CITATION = re.compile(r" ?\[\^?\d+(?:_\d+)?\](?!\()")
_PAGE_LINK = re.compile(r"\[([^\]]*)\]\(pplx://[^)]*\)")
_QUESTIONS = ("query_str", "query")


class Perplexity:
    """Reads threads: entries of a question and an answer each."""

    name: SourceName = "perplexity"

    def matches(self, value: Json) -> bool:
        """Entries with a question, under ``entries`` or ``messages``."""
        return any(any(key in entry for key in _QUESTIONS) for entry in _entries(value)) or (
            "context_uuid" in value and "entries" in value
        )

    def read(self, value: Json, options: ReadOptions) -> Iterator[Draft]:
        """The one conversation."""
        entries = _entries(value)
        if not isinstance(value.get("entries", value.get("messages")), list):
            raise Unusable(Reason.WRONG_VALUE, "entries is not a list")
        turns = Turns()
        models: dict[str, None] = {}
        for entry in entries:
            time = _time(entry)
            turns.say("user", next((text for key in _QUESTIONS if (text := text_of(entry.get(key)))), ""), time=time)
            turns.say("assistant", cleaned(_answer(entry)), time=time)
            if model := name_of(entry.get("display_model")) or name_of(entry.get("model")):
                models.pop(model, None)
                models[model] = None
        messages, times = turns.finished()
        first = entries[0] if entries else {}
        changes = [time for entry in entries if (time := _time(entry)) is not None]
        yield Draft(
            messages,
            source_id=next((id for key in ("context_uuid", "id", "uuid") if (id := name_of(value.get(key)))), None)
            or name_of(first.get("context_uuid")),
            title=next((title for key in ("context_title", "title") if (title := name_of(value.get(key)))), None)
            or name_of(first.get("thread_title")),
            created_at=moment(value.get("created_at")) or (changes[0] if changes else None),
            updated_at=moment(value.get("updated_at")) or (changes[-1] if changes else None),
            models=tuple(models) or tuple(filter(None, [name_of(value.get("model"))])),
            times=times,
            dropped=turns.dropped,
        )


def cleaned(answer: str) -> str:
    """An answer without the marks that point into its list of sources."""
    return _PAGE_LINK.sub(r"\1", _CITATION.sub("", answer))


def _entries(value: Json) -> list[Json]:
    return records(value.get("entries")) or records(value.get("messages"))


def _time(entry: Json) -> datetime | None:
    for key in ("created_at", "entry_updated_datetime", "updated_datetime"):
        if found := moment(entry.get(key)):
            return found
    return None


def _answer(entry: Json) -> str:
    """The answer: plain, or in the block of Markdown, or, in old threads, in the last of the steps in ``text``."""
    if text := text_of(entry.get("answer")):
        return _unpacked(text)
    for block in records(entry.get("blocks")):
        markdown = record(block.get("markdown_block"))
        if str(block.get("intended_usage", "")).startswith("ask_text") and markdown:
            chunks = markdown.get("chunks")
            pieces = chunks if isinstance(chunks, list) else []
            return text_of(markdown.get("answer")) or "".join(map(text_of, pieces))
    return _unpacked(text_of(entry.get("text")))


def _unpacked(text: str) -> str:
    """``text``, or the answer inside where it is JSON of steps or of an answer."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        packed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if isinstance(packed, list):
        final = [step for step in records(packed) if step.get("step_type") == "FINAL"]
        return _unpacked(text_of(record(final[-1].get("content")).get("answer"))) if final else ""
    return text_of(record(packed).get("answer")) or text
