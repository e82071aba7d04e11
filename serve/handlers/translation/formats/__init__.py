"""Readers of formats: each takes a document apart into what stays and what is translated.

Whatever is not a segment is kept byte for byte, so structure cannot be lost by a translation.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from serve.handlers.translation.document import Document, merged
from serve.handlers.translation.formats.data import read_json, read_po
from serve.handlers.translation.formats.markdown import read_markdown
from serve.handlers.translation.formats.markup import read_html
from serve.handlers.translation.formats.plain import read_text
from serve.handlers.translation.formats.subtitles import read_subtitles
from serve.protocol.translation import Format

_READERS: dict[Format, Callable[[str], Document]] = {
    "text": read_text,
    "markdown": read_markdown,
    "html": read_html,
    "json": read_json,
    "po": read_po,
    "srt": read_subtitles,
    "vtt": read_subtitles,
}
#: The end of a file's name -> its format.
ENDINGS: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".json": "json",
    ".po": "po",
    ".pot": "po",
    ".srt": "srt",
    ".vtt": "vtt",
}
_BOM = "\ufeff"
_HTML = re.compile(r"\s*(?:<!doctype html|<(?:html|head|body|div|p|ul|ol|h[1-6]|table|section|article)\b)", re.I)
_MARKDOWN = re.compile(
    r"^(?:#{1,6} \S|```|~~~|>\s\S|[-*+] \S.*\n[-*+] \S|\d+\. \S.*\n\d+\. \S|\|.+\|\s*\n\|[ :|-]+\|)"
    r"|\[[^\]\n]{1,300}\]\([^)\s]{1,300}\)|\*\*\S[^*\n]*\*\*",
    re.M,
)


def format_of(text: str, wanted: Format) -> Format:
    """``wanted``, or what ``text`` looks like where that is ``auto``: HTML, Markdown, else text."""
    if wanted != "auto":
        return wanted
    if _HTML.match(text.removeprefix(_BOM)):
        return "html"
    return "markdown" if _MARKDOWN.search(text) else "text"


def read(text: str, format: Format) -> Document:
    """The document in ``text``.

    Raises:
        InvalidRequest: it is not what ``format`` says.
    """
    bare = text.removeprefix(_BOM)
    document = _READERS[format_of(bare, format)](bare)
    return document if bare == text else merged([_BOM, *document])
