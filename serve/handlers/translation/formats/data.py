"""JSON and gettext: values are translated, keys and everything else stay."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import polib

from serve.errors import InvalidRequest
from serve.handlers.translation.document import Document, Segment, edged, merged

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_KEY = re.compile(r"\s*:")
#: Values that name something for a program: paths, colours, identifiers, versions.
_NAME = re.compile(r"(?=.*[\d_./:#@\\-])[^\s]+|[a-z]+(?:[A-Z][a-z0-9]*)+|[A-Z][A-Z0-9_]+")


def read_json(text: str) -> Document:
    """Take JSON apart: string values that are words, in their places.

    Raises:
        InvalidRequest: it is no JSON.
    """
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"The text is not valid JSON: {error.msg}, line {error.lineno}, column {error.colno}.",
            code="invalid_json",
        ) from None
    parts: list[str | Segment] = []
    end = 0
    for found in _STRING.finditer(text):
        value = json.loads(found[0])
        if _KEY.match(text, found.end()) or _NAME.fullmatch(value.strip()):
            continue
        parts += [text[end : found.start() + 1], *_lines(value, _json), '"']
        end = found.end()
    return merged([*parts, text[end:]])


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def read_po(text: str) -> Document:
    """Take a gettext catalogue apart: what has no translation yet, or a fuzzy one, gets one.

    Raises:
        InvalidRequest: it is no catalogue.
    """
    try:
        catalogue = polib.pofile(text)
    except (OSError, ValueError, UnicodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidRequest(f"The text is no gettext catalogue: {reason}.", code="invalid_po") from None
    segments: list[str] = []

    def mark(source: str) -> str:
        segments.append(source)
        return f"\ue000{len(segments) - 1}\ue001"

    for entry in catalogue:
        if entry.obsolete or entry.translated():
            continue
        entry.flags = [flag for flag in entry.flags if flag != "fuzzy"]
        if entry.msgid_plural:
            sources = {"0": entry.msgid} | dict.fromkeys(
                map(str, range(1, len(entry.msgstr_plural))), entry.msgid_plural
            )
            entry.msgstr_plural = {int(form): mark(source) for form, source in sources.items()}
        else:
            entry.msgstr = mark(entry.msgid)
    parts: list[str | Segment] = []
    for index, part in enumerate(re.split("\ue000(\\d+)\ue001", str(catalogue))):
        parts += _lines(segments[int(part)], polib.escape) if index % 2 else [part]
    return merged(parts)


def _lines(value: str, encode: Callable[[str], str]) -> list[str | Segment]:
    """The lines of a value as segments; what is between them is written as the file has it."""
    parts: list[str | Segment] = []
    for line in re.split(r"(\n+)", value):
        parts += [
            encode(part) if isinstance(part, str) else part
            for part in edged(line, lambda inner: Segment(inner, "text", (), encode))
        ]
    return parts
