"""Open WebUI: chats of its export, each a tree of messages under ``history``."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from train.dataset.exports.problems import Reason, Unusable
from train.dataset.exports.reader import Draft, ReadOptions
from train.dataset.exports.tree import Branch, Tree
from train.dataset.exports.turns import IMAGE, Turns, file_mark
from train.dataset.exports.values import moment, name_of, record, records, text_of
from train.dataset.rows import SourceName

Json = dict[str, Any]

# Thoughts, calls and their results are kept inside the text of an answer.
_DETAILS = re.compile(r"<details\b([^>]*)>(.*?)</details>\n?", re.DOTALL)
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
_SUMMARY = re.compile(r"<summary>.*?</summary>", re.DOTALL)
_QUOTE = re.compile(r"^> ?", re.MULTILINE)


class OpenWebUI:
    """Reads chats as Open WebUI exports them: one by one, or all of a user's."""

    name: SourceName = "openwebui"

    def matches(self, value: Json) -> bool:
        """A chat with a ``history`` of messages, or the database's record around one."""
        chat = record(value.get("chat")) or value
        return "messages" in record(chat.get("history")) or ("chat" in value and "messages" in chat)

    def read(self, value: Json, options: ReadOptions) -> Iterator[Draft]:
        """The branches of ``history``; the last one ends at ``currentId``. Old chats have a plain list."""
        chat = record(value.get("chat")) or value
        for branch in _branches(chat, options):
            yield _draft(value, chat, branch)


def _branches(chat: Json, options: ReadOptions) -> Iterator[Branch]:
    history = record(chat.get("history"))
    messages = history.get("messages")
    if not messages and isinstance(chat.get("messages"), list):
        yield Branch(None, records(chat["messages"]))
        return
    if not isinstance(messages, dict):
        raise Unusable(Reason.WRONG_VALUE, "history.messages is not an object")
    nodes = {id: node for id, node in messages.items() if isinstance(node, dict)}
    parents = {id: node["parentId"] for id, node in nodes.items() if isinstance(node.get("parentId"), str)}
    yield from Tree(nodes, parents, name_of(history.get("currentId"))).branches(every=options.every_branch)


def _draft(value: Json, chat: Json, branch: Branch) -> Draft:
    turns = Turns()
    if system := text_of(record(chat.get("params")).get("system")) or text_of(chat.get("system")):
        turns.say("system", system)
    for message in branch.messages:
        _add(turns, message)
    if not branch.complete:
        turns.dropped["missing_parent"] += 1
    messages, times = turns.finished()
    answers = [message for message in branch.messages if message.get("role") == "assistant"]
    named = [name for message in answers if (name := name_of(message.get("model")))]
    return Draft(
        messages,
        source_id=name_of(value.get("id")) or name_of(chat.get("id")),
        branch=branch.leaf,
        title=name_of(value.get("title")) or name_of(chat.get("title")),
        created_at=moment(value.get("created_at")) or moment(chat.get("timestamp")),
        updated_at=moment(value.get("updated_at")),
        models=tuple(reversed(dict.fromkeys(reversed(named)))),
        times=times,
        dropped=turns.dropped,
    )


def _add(turns: Turns, message: Json) -> None:
    role, time = text_of(message.get("role")), moment(message.get("timestamp"))
    text = _text(message.get("content"))
    if role == "user":
        for mark in _attached(message):
            turns.say("user", mark, time=time)
        turns.say("user", text, time=time)
    elif role == "system":
        turns.say("system", text, time=time)
    elif role == "assistant":
        if message.get("error"):
            turns.dropped["failed_answer"] += 1
        _add_answer(turns, text or _output(message), time)
    else:
        turns.dropped["unknown_role"] += 1


def _add_answer(turns: Turns, text: str, time: datetime | None) -> None:
    """Take an answer apart at its ``details``."""
    end = 0
    for found in _DETAILS.finditer(text):
        fields = {key: html.unescape(value) for key, value in _ATTRIBUTE.findall(found[1])}
        inside = html.unescape(_SUMMARY.sub("", found[2]).strip())
        kind = fields.get("type")
        if kind not in ("reasoning", "tool_calls", "code_interpreter"):
            continue
        _say(turns, text[end : found.start()], time)
        end = found.end()
        if kind == "tool_calls":
            name = fields.get("name") or "tool"
            id = fields.get("id") or f"call_{name}"
            turns.call(id, name, fields.get("arguments") or "{}", time=time)
            turns.answer(fields.get("result") or inside, name=name, time=time)
        elif kind == "reasoning":
            turns.say("assistant", "", reasoning=_QUOTE.sub("", inside), time=time)
        else:
            _say(turns, inside, time)
    _say(turns, text[end:], time)


def _say(turns: Turns, text: str, time: datetime | None) -> None:
    if text.strip():
        turns.say("assistant", text, time=time)


def _text(content: object) -> str:
    if isinstance(content, list):
        parts = [IMAGE if part.get("type") == "image_url" else text_of(part.get("text")) for part in records(content)]
        return "\n".join(filter(None, parts))
    return text_of(content)


def _output(message: Json) -> str:
    """The text of an answer that is kept as OpenAI's output items only."""
    items = [item for item in records(message.get("output")) if item.get("type") == "message"]
    return "\n\n".join(filter(None, (_text(item.get("content")) for item in items)))


def _attached(message: Json) -> Iterator[str]:
    for one in records(message.get("files")):
        kind = text_of(one.get("type")) or text_of(one.get("content_type"))
        yield IMAGE if kind.startswith("image") else file_mark(name_of(one.get("name")))
