"""What within a text is kept as it is: code, addresses, tags, placeholders, emoji, marks of emphasis."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

#: How a text is written: what is a mark in one is plain text in another.
Syntax = Literal["text", "markdown", "html"]

_EMOJI = (
    "(?:[\U0001f1e6-\U0001f1ff]{2}|[\U0001f300-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u231a-\u23ff]"
    "[\ufe0f\U0001f3fb-\U0001f3ff]?(?:\u200d[\U0001f300-\U0001faff\u2600-\u27bf][\ufe0f\U0001f3fb-\U0001f3ff]?)*)"
)
# Everything here is bounded in length or by its own beginning, so that marks without an end cost no search to the end
# of the text each.
_TAG = (
    r"<!--(?:(?!<!--).)*?-->"
    r"|<(?P<code>(?i:code|kbd|samp|var|tt))\b[^<>]{0,500}>(?:(?!<(?P=code)\b).)*?</(?P=code)>"  # whole: no prose
    r"|</?[A-Za-z][\w:.-]{0,60}(?:\s(?:\"[^\"]{0,2000}\"|'[^']{0,2000}'|[^'\"<>])*)?/?>"
)
_ADDRESS = (
    r"(?:https?|ftp|file)://[^\s<>\"'`|)\]}（），。；：！？]*[^\s<>\"'`|)\]}（），。；：！？.,;:!?]"
    r"|\bwww\.[\w-]+\.[\w./?=&%#-]*[\w/]|(?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+"
)
_PLACEHOLDER = (
    r"\{\{\{?[^{}\n]{0,80}\}\}\}?|\{%[^\n%]*%\}|\$\{[^{}\n]{1,80}\}|#\{[^{}\n]{1,80}\}|\{[\w.:,!+#-]{0,60}\}"
    r"|\{ ?[A-Za-z_]\w{0,40}(?:[.!:,\[](?:[^{}\n]|\{[^{}\n]{0,80}\}){0,200})? ?\}|\{\d{1,2}[:!][^{}\n]{1,40}\}"
    r"|%\([\w.]+\)[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]"
    r"|%(?:\d+\$)?[-+#0]*\d*(?:\.\d+)?(?:(?:l{0,2}|hh?|[zjt])[diuxXeEfgGcsp](?![a-z]{3})|@)|%%"
    r"|\$[A-Za-z_]\w*|%[A-Z_][A-Z0-9_]+%|\[\[[^\[\]\n]{1,80}\]\]|__[A-Z][A-Z0-9_]*__|@@\w+@@"
)
_COMMON = (r"(?<!`)(?P<ticks>`{1,9})(?!`).{1,1000}?(?<!`)(?P=ticks)(?!`)", _TAG, _ADDRESS, _PLACEHOLDER, _EMOJI)
_ENTITY = r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#\d{1,7}|#x[0-9A-Fa-f]{1,6});"
_MARKDOWN = (
    r"\\[!-/:-@\[-`{-~]",  # an escaped mark
    r"!\[(?=[^\]\n]{0,300}\]\()",  # about a link's text
    r"\]\((?:[^()\s]|\([^()\s]*\))*(?:\s+(?:\"[^\"]*\"|'[^']*'))?\)",
    r"\]\[[^\]\n]{0,200}\]|\[\^[^\]\n]{1,100}\]|(?<!\\)\[(?=[^\]\n]{1,300}\][(\[])|\[[ xX]\](?=\s)",
    r"\*{1,3}(?=\S)|(?<=\S)\*{1,3}|(?<!\w)_{1,3}(?=\S)|(?<=\S)_{1,3}(?!\w)|~~",
)


@cache
def _pattern(syntax: Syntax) -> re.Pattern[str]:
    kinds = {"text": _COMMON, "markdown": (*_COMMON, _ENTITY, *_MARKDOWN), "html": (*_COMMON[1:], _ENTITY)}
    return re.compile("|".join(kinds[syntax]), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text.

    Attributes:
        kept: whether it stays as it is.
    """

    text: str
    kept: bool


def pieces(text: str, syntax: Syntax) -> list[Piece]:
    """``text`` cut into what is kept and what is not; joined, they are the text again."""
    found: list[Piece] = []
    end = 0
    for match in _pattern(syntax).finditer(text):
        if match.start() > end:
            found.append(Piece(text[end : match.start()], kept=False))
        if found and found[-1].kept:  # What touches is one thing to keep.
            found[-1] = Piece(found[-1].text + match[0], kept=True)
        else:
            found.append(Piece(match[0], kept=True))
        end = match.end()
    if end < len(text):
        found.append(Piece(text[end:], kept=False))
    return found


def kept(text: str, syntax: Syntax) -> list[str]:
    """What of ``text`` is kept, in order."""
    return [piece.text for piece in pieces(text, syntax) if piece.kept]


def says_something(text: str) -> bool:
    """Whether there is a letter in ``text`` to translate."""
    return any(map(str.isalpha, text))


def readable(text: str, syntax: Syntax) -> str:
    """``text`` with the character references that stand for letters written as those letters."""
    if syntax == "text":
        return text
    return re.sub(_ENTITY, lambda found: char if (char := html.unescape(found[0])).isalpha() else found[0], text)


def written(text: str, syntax: Syntax) -> str:
    """Translated plain text as it is written in ``syntax``."""
    return html.escape(text, quote=False) if syntax == "html" else text
