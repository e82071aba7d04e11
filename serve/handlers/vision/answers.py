"""The JSON in what a model says, however it is wrapped, and as much of it as is whole.

Models of Qwen's family wrap their lists in code fences, write commas behind the last entry, break off where their
tokens end, and repeat themselves until then.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

#: A comma before a closing bracket, but for those within strings, which the first branch takes.
_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])', re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)

#: Levels of lists and objects in each other that are read; what is sent on may not have many more.
_MAX_DEPTH = 64

#: Entries of one answer that are read; a model that repeats itself says no more with further ones.
MAX_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in what a model says, and where: the first character of it, and the one behind it."""

    item: dict[str, Any]
    start: int
    end: int


def json_of(text: str) -> Any:  # noqa: ANN401 - whatever the model wrote
    """The longest JSON object or list in ``text``; none where there is none that is whole."""
    text = _without_last_commas(text)
    longest, found, at = 0, None, 0
    for start in _starts(text, "{["):
        if start < at:
            continue
        value, end = _decoded(text, start)
        if value is not None:
            at = end
            if end - start > longest:
                longest, found = end - start, value
    return found


def entries_of(text: str) -> list[Entry]:
    """Every object in ``text`` that is an entry of a list, or stands alone; at most ``MAX_ITEMS``.

    An object that holds a list of objects, or an empty one, is taken for its wrapping. Of a list that breaks off, the
    entries that are whole are taken.
    """
    text = _without_last_commas(text)
    found: list[Entry] = []
    at = 0
    for start in _starts(text, "{"):
        if start < at:
            continue
        item, end = _decoded(text, start)
        # Else it is a wrapping, whole or broken off, or no JSON: look inside.
        if isinstance(item, dict) and not _wraps(item):
            found.append(Entry(item, start, end))
            at = end
        if len(found) >= MAX_ITEMS:
            break
    return found


def _without_last_commas(text: str) -> str:
    """``text`` with spaces for such commas: everything stays in its place."""
    return _LAST_COMMA.sub(lambda match: match[1] or " ", text)


def _starts(text: str, marks: str) -> list[int]:
    return [place for place, char in enumerate(text) if char in marks]


def _decoded(text: str, start: int) -> tuple[Any, int]:
    try:
        value, end = _DECODER.raw_decode(text, start)
        return _plain(value), end
    except (ValueError, RecursionError):
        return None, start


def _plain(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - whatever the model wrote
    """``value`` as it can be sent on: no half surrogate pairs, no numbers of more than 64 bits.

    Raises:
        ValueError: it is nested too deep.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list):
        return [_plain(one, depth + 1) for one in value]
    if isinstance(value, dict):
        return {_plain(name, depth + 1): _plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 10**300 else None
    return value


def _wraps(item: dict[str, Any]) -> bool:
    return any(isinstance(value, list) and all(isinstance(one, dict) for one in value) for value in item.values())
