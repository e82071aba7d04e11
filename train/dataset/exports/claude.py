"""Claude: conversations of its export, with ``chat_messages``; artifacts and attachments become text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

import orjson

from serve.store.values import clean_json
from train.dataset.exports.artifacts import Artifacts
from train.dataset.exports.problems import Reason, Unusable
from train.dataset.exports.reader import Draft, ReadOptions
from train.dataset.exports.tree import Branch, Tree
from train.dataset.exports.turns import IMAGE, Turns, file_mark
from train.dataset.exports.values import moment, name_of, record, records, text_of
from train.dataset.rows import SourceName

Json = dict[str, Any]
_Side = Literal["user", "assistant"]

# The parent of a first message, which is no message itself.
_ROOTS = frozenset({"00000000-0000-4000-8000-000000000000", "00000000-0000-0000-0000-000000000000"})
# What the export writes in ``text`` for each block that is not text.
_UNSUPPORTED = re.compile(
    r"\n?```\n(?:This block is not supported on your current device yet\.|Viewing artifacts [^\n]*)\n```\n?"
)


class Claude:
    """Reads conversations as Claude's data export, or its page's interface, has them."""

    name: SourceName = "claude"

    def matches(self, value: Json) -> bool:
        """A list ``chat_messages``; also one that is broken."""
        return "chat_messages" in value

    def read(self, value: Json, options: ReadOptions) -> Iterator[Draft]:
        """The branches of ``chat_messages``; without parents, or without forks, there is one."""
        if not isinstance(value.get("chat_messages"), list):
            raise Unusable(Reason.WRONG_VALUE, "chat_messages is not a list")
        for branch in _branches(value, options):
            yield _draft(value, branch)


def _branches(value: Json, options: ReadOptions) -> Iterator[Branch]:
    messages = records(value["chat_messages"])
    by_id = {id: message for message in messages if (id := name_of(message.get("uuid"))) is not None}
    parents = {
        id: parent
        for id, message in by_id.items()
        if (parent := name_of(message.get("parent_message_uuid"))) is not None
    }
    if len(by_id) < len(messages) or not parents:
        yield Branch(None, messages)
        return
    current = name_of(value.get("current_leaf_message_uuid"))
    yield from Tree(by_id, parents, current, _ROOTS).branches(every=options.every_branch)


def _draft(value: Json, branch: Branch) -> Draft:
    turns = _Conversation()
    for message in branch.messages:
        turns.add(message)
    if not branch.complete:
        turns.dropped["missing_parent"] += 1
    messages, times = turns.finished()
    return Draft(
        messages,
        source_id=name_of(value.get("uuid")),
        branch=branch.leaf,
        title=name_of(value.get("name")),
        created_at=moment(value.get("created_at")),
        updated_at=moment(value.get("updated_at")),
        models=tuple(filter(None, [name_of(value.get("model"))])),
        times=times,
        dropped=turns.dropped,
    )


class _Conversation(Turns):
    """Turns made of Claude's messages."""

    def __init__(self) -> None:
        super().__init__()
        self._artifacts = Artifacts()
        self._artifact_calls: set[str] = set()

    def add(self, message: Json) -> None:
        """Add one message: its attachments, then its blocks, or its plain text where it has none."""
        sender = text_of(message.get("sender"))
        time = moment(message.get("created_at"))
        if sender not in ("human", "user", "assistant"):
            self.dropped["unknown_role"] += 1
            return
        role: _Side = "assistant" if sender == "assistant" else "user"
        if role == "user":
            for text in _attached(message):
                self.say("user", text, time=time)
        blocks = records(message.get("content"))
        spoken = [block for block in blocks if block.get("type") != "text" or text_of(block.get("text")).strip()]
        if not spoken:
            text = _UNSUPPORTED.sub("\n", text_of(message.get("text")))
            self.say(role, self._artifacts.in_text(text), time=time)
        for block in spoken:
            self._add_block(block, role, time)

    def _add_block(self, block: Json, role: _Side, time: datetime | None) -> None:
        kind = text_of(block.get("type"))
        if kind == "text":
            self.say(role, self._artifacts.in_text(text_of(block.get("text"))), time=time)
        elif kind == "thinking":
            self.say("assistant", "", reasoning=text_of(block.get("thinking")), time=time)
        elif kind == "tool_use" and block.get("name") == "artifacts":
            self._artifact_calls.add(text_of(block.get("id")))
            self.say("assistant", self._artifacts.change(record(block.get("input"))), time=time)
        elif kind == "tool_use":
            id, name = name_of(block.get("id")), name_of(block.get("name")) or "tool"
            self.call(
                id or f"call_{name}",
                name,
                orjson.dumps(clean_json(record(block.get("input")), "input")).decode(),
                time=time,
            )
        elif kind == "tool_result":
            self._add_result(block, time)
        elif kind == "voice_note":
            self.say(role, text_of(block.get("text")), time=time)
        elif kind in ("image", "document"):
            self.say(role, IMAGE if kind == "image" else file_mark(name_of(block.get("title"))), time=time)
        else:
            self.dropped["unknown_block"] += 1

    def _add_result(self, block: Json, time: datetime | None) -> None:
        id, name = name_of(block.get("tool_use_id")), name_of(block.get("name"))
        if name == "artifacts" or (id or "") in self._artifact_calls:
            return
        self.answer(_result_text(block.get("content")), call_id=id, name=name, time=time)


def _result_text(content: object) -> str:
    if isinstance(content, str):
        return text_of(content)
    texts = []
    for part in records(content):
        if part.get("type") == "image":
            texts.append(IMAGE)
        else:
            # Pages that a search found come as ``knowledge`` with a title and an address.
            fields = ("text",) if text_of(part.get("text")) else ("title", "url")
            texts.append("\n".join(filter(None, (text_of(part.get(key)) for key in fields))))
    return "\n".join(filter(None, texts))


def _attached(message: Json) -> Iterator[str]:
    """Marks for files, each with its text where the export has it."""
    attachments = records(message.get("attachments"))
    for one in attachments:
        mark = file_mark(name_of(one.get("file_name")))
        yield "\n".join(filter(None, [mark, text_of(one.get("extracted_content"))]))
    known = {name_of(one.get("file_name")) for one in attachments}
    for one in records(message.get("files")):
        name = name_of(one.get("file_name"))
        if name is None or name not in known:
            yield IMAGE if one.get("file_kind") == "image" else file_mark(name)
