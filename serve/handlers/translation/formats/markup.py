"""HTML: text between tags of structure is a segment, with the tags of a phrase kept in it.

Tags are found as HTML's own grammar has them (https://html.spec.whatwg.org/multipage/syntax.html#start-tags) and stay
byte for byte, with their attributes. What browsers show as it is written stays too.
"""

from __future__ import annotations

import re

from serve.handlers.translation.document import Document, Segment, edged, merged
from serve.handlers.translation.inline import readable, says_something

#: Elements whose content is not prose.
_WHOLE = "script|style|pre|code|textarea|svg|math|kbd|samp|var|template"
_TOKEN = re.compile(
    rf"<!--.*?(?:-->|\Z)|<(?P<whole>{_WHOLE})\b(?:\"[^\"]{{0,2000}}\"|'[^']{{0,2000}}'|[^'\"<>])*>"
    r".*?(?:</(?P=whole)\s*>|\Z)"
    r"|<[!?][^<>]{0,2000}>|</?(?P<name>[A-Za-z][\w:-]*)(?:\s(?:\"[^\"]{0,2000}\"|'[^']{0,2000}'|[^'\"<>])*)?/?>",
    re.DOTALL | re.IGNORECASE,
)
#: Elements of a phrase: a sentence goes on across them.
_PHRASE = frozenset(
    re.findall(
        r"\w+",
        "a abbr b bdi bdo cite code data del dfn em font i ins kbd label mark q ruby rt rp s samp small span strong"
        " sub sup time tt u var wbr",
    )
)
#: A line's end with the space around it, as much of it as anybody writes.
LINE_END = re.compile(r"[^\S\n]{0,100}\n\s*")


def read_html(text: str) -> Document:
    """Take HTML apart."""
    parts: list[str | Segment] = []
    run: list[str] = []
    end = 0
    for token in _TOKEN.finditer(text):
        run.append(text[end : token.start()])
        name = (token["name"] or token["whole"] or "").lower()
        if name in _PHRASE:
            run.append(token[0])
        else:
            parts += _phrase("".join(run))
            run = []
            parts.append(token[0])
        end = token.end()
    run.append(text[end:])
    return merged([*parts, *_phrase("".join(run))])


def _phrase(run: str) -> list[str | Segment]:
    """The text between two tags of structure."""
    if not says_something(_TOKEN.sub("", run)):
        return [run] if run else []
    return edged(run, _segment)


def _segment(inner: str) -> Segment:
    joins = tuple(LINE_END.findall(inner))
    return Segment(readable(LINE_END.sub(" ", inner), "html"), "html", joins, raw=inner)
