"""Plain text: each line, or column of one, is a segment; blank lines, and the space around a line, stay."""

from __future__ import annotations

import re

from serve.handlers.translation.document import Document, Segment, columns, merged

#: A line's number or bullet is none of its words.
_LINE = re.compile(r"(?P<mark>[^\S\n]*(?:(?:[-*+•–—]|\d{1,3}[.)])[^\S\n]+)?)(?P<words>[^\n]*)(?P<end>\n?)")


def read_text(text: str) -> Document:
    """Take plain text apart."""
    parts: list[str | Segment] = []
    for line in _LINE.finditer(text):
        words = line["words"]
        bare = words.removesuffix("\r")
        parts += [line["mark"], *columns(bare, Segment), words[len(bare) :], line["end"]]
    return merged([part for part in parts if part != ""])
