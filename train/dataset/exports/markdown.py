"""Perplexity's threads in Markdown, as its page and two export tools write them, as questions and answers.

- Its page: the logo, a question as a heading, the answer, a line ``⁂``, footnotes; threads of several questions
  go on after a rule with the next heading.
- perplexport: a front matter with ``URL``, then ``# Me`` and ``# Perplexity`` by turns.
- pplxport: a front matter with ``source``, then ``**User:**`` and ``**Assistant:**`` by turns.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

Json = dict[str, Any]

_LOGO = re.compile(r'\A\s*<img src="https://[^"]*perplexity\.ai/[^"]*"[^>]*>\s*')
_FRONT = re.compile(r"\A\s*---\n(.*?)\n---\n", re.DOTALL)
_ADDRESS = re.compile(r"^(?:URL|source): *(https://(?:www\.)?perplexity\.ai/\S*)", re.MULTILINE)
_FIELD = re.compile(r"^(title|Last updated): *(.+)$", re.MULTILINE)
_SIDES = re.compile(r"^(?:# (Me|Perplexity)|\*\*(User|Assistant):\*\*) *", re.MULTILINE)
_RULE_END = re.compile(r"\n+(?:---|\*\*\*)\s*\Z")
# What ends an answer on the page: an asterism, footnotes, a rule; then the next question.
_SOURCES = re.compile(
    r'(?:<span style="display:none">[^<]*</span>\s*)?<div [^>]*>⁂</div>.*?(?:\n---\n\s*(?=# )|\Z)', re.DOTALL
)
_NEXT = re.compile(r"\n---\n+(?=# )")
_HEADING = re.compile(r"# +(.*?)\n+(.*)", re.DOTALL)
_LIST_OF_SOURCES = re.compile(r"\n#{2,3} (?:\d+ )?Sources:?\n.*\Z", re.DOTALL)


def is_thread(head: str) -> bool:
    """Whether a text that begins with ``head`` is a thread of Perplexity."""
    if _LOGO.match(head):
        return True
    front = _FRONT.match(head)
    return front is not None and _ADDRESS.search(front[1]) is not None


def thread(text: str) -> Json:
    """A thread as the JSON that ``perplexity.Perplexity`` reads; one without entries where there is no question."""
    text = text.replace("\r\n", "\n")
    if _LOGO.match(text):
        return {"entries": _page(_LOGO.sub("", text))}
    front = _FRONT.match(text)
    assert front is not None, "is_thread was not asked"
    fields = dict(_FIELD.findall(front[1]))
    address = _ADDRESS.search(front[1])
    return {
        "id": address[1].rstrip("/").rpartition("/")[2] if address else None,
        "title": fields.get("title"),
        "updated_at": fields.get("Last updated"),
        "entries": _by_turns(text[front.end() :]),
    }


def _page(text: str) -> list[Json]:
    entries = []
    # Without sources a rule and a heading are all that parts two questions; an answer can have them too.
    for part in (_SOURCES if _SOURCES.search(text) else _NEXT).split(text):
        if found := _HEADING.match(part.strip()):
            answer = re.sub(r"\A---\n", "", found[2])
            entries.append({"query": found[1], "answer": _RULE_END.sub("", f"\n{answer}").strip()})
    return entries


def _by_turns(text: str) -> list[Json]:
    entries: list[Json] = []
    for mark, following in pairwise([*_SIDES.finditer(text), None]):
        assert mark is not None, "only the last one is none"
        said = text[mark.end() : following.start() if following else len(text)]
        said = _RULE_END.sub("", "\n" + said.strip()).strip()
        if (mark[1] or mark[2]) in ("Me", "User"):
            entries.append({"query": said, "answer": ""})
        elif entries:
            entries[-1]["answer"] += _RULE_END.sub("", _LIST_OF_SOURCES.sub("", "\n" + said)).strip()
    return entries
