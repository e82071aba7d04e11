"""JSON and gettext: values are translated, keys and everything else stay."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable

import polib

from serve.errors import InvalidRequest
from serve.handlers.translation.document import Document, Entry, Part, Segment, columns, merged

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_KEY = re.compile(r"\s*:")
#: One word of ASCII that ends as no sentence and no label does.
_WORD = re.compile(r"[!-~]*[^\s.,:;!?]")
#: What makes such a word the name of something for a program: a digit or a separator within, a sign in front, the
#: capitals or hyphens of identifiers.
_NAME = re.compile(
    r"\d|\w[_./:@#=\\]+\w|\A(?:\.{1,2}|[#/@~$\\])[\w/]|\A[a-z]+(?:-[a-z]+)+\Z|\A[a-z]+(?:[A-Z][a-z]*)+\Z", re.ASCII
)
#: Half of a character, which JSON can name and no text can hold.
_HALF = re.compile(r"[\ud800-\udfff]")
#: polib opens what it takes for the name of a file. No path has this in it, and it passes over such a line.
_NO_PATH = "#~| \0\n"


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
    except (ValueError, RecursionError):
        raise InvalidRequest(
            "The text is JSON that is nested too deep, or has a number that is too long.", code="invalid_json"
        ) from None
    parts: list[str | Segment] = []
    end = 0
    for found in _STRING.finditer(text):
        value = json.loads(found[0])
        if _KEY.match(text, found.end()) or _is_name(value.strip()) or _HALF.search(value):
            continue
        parts += [text[end : found.start() + 1], *_lines(value, _json), '"']
        end = found.end()
    return merged([*parts, text[end:]])


def _is_name(value: str) -> bool:
    return _WORD.fullmatch(value) is not None and _NAME.search(value) is not None


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def read_po(text: str) -> Document:
    """Take a gettext catalogue apart: what has no translation yet, or a fuzzy one, gets one, or stays as it is.

    Raises:
        InvalidRequest: it is no catalogue.
    """
    try:
        catalogue = polib.pofile(_NO_PATH + text)
    except (OSError, ValueError, UnicodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = re.sub(r"(?<=line )\d+", lambda number: str(int(number[0]) - _NO_PATH.count("\n")), reason)
        raise InvalidRequest(f"The text is no gettext catalogue: {reason}.", code="invalid_po") from None
    sources: list[str] = []
    # A catalogue has any character in its comments, but not what nobody can guess.
    key = secrets.token_hex(8)

    def mark(source: str) -> str:
        sources.append(source)
        return f"\ue000{key}:{len(sources) - 1}\ue001"

    def parts_of(marked: str) -> list[str | Segment]:
        parts: list[str | Segment] = []
        for index, part in enumerate(re.split(f"\ue000{key}:(\\d+)\ue001", marked)):
            parts += _lines(sources[int(part)], polib.escape) if index % 2 else [part]
        return parts

    entries: list[tuple[polib.POEntry, str]] = []
    for entry in catalogue:
        if entry.obsolete or entry.translated():
            continue
        entries.append((entry, entry.__unicode__(catalogue.wrapwidth)))
        entry.flags = [flag for flag in entry.flags if flag != "fuzzy"]
        if entry.msgid_plural:
            forms = {0: entry.msgid} | dict.fromkeys(range(1, len(entry.msgstr_plural)), entry.msgid_plural)
            entry.msgstr_plural = {form: mark(source) for form, source in forms.items()}
        else:
            entry.msgstr = mark(entry.msgid)
    whole, end = str(catalogue), 0
    parts: list[Part] = []
    for entry, raw in entries:
        marked = entry.__unicode__(catalogue.wrapwidth)
        start = whole.index(marked, end)
        line = entry.linenum - _NO_PATH.count("\n")
        parts += [whole[end:start], Entry(tuple(parts_of(marked)), raw, line)]
        end = start + len(marked)
    return merged([*parts, whole[end:]])


def _lines(value: str, encode: Callable[[str], str]) -> list[str | Segment]:
    """The lines of a value as segments; what is between them is written as the file has it."""
    parts: list[str | Segment] = []
    for line in re.split(r"(\n+)", value):
        parts += [
            encode(part) if isinstance(part, str) else part
            for part in columns(line, lambda inner: Segment(inner, "text", (), encode))
        ]
    return parts
