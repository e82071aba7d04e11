"""ChatGPT: conversations of ``conversations.json`` or its numbered parts, each a tree of messages (``mapping``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from train.dataset.exports.problems import Reason, Unusable
from train.dataset.exports.reader import Draft, ReadOptions
from train.dataset.exports.tree import Branch, Tree
from train.dataset.exports.turns import AUDIO, IMAGE, VIDEO, Turns, file_mark
from train.dataset.exports.values import moment, name_of, record, records, text_of
from train.dataset.rows import SourceName

Json = dict[str, Any]

# References that only ChatGPT's page can show: between private-use marks, or in lenticular brackets.
_CITATION = re.compile(
    "\ue200[^\ue200\ue201]*\ue201|\u3010\\d+(?::\\d+)?\u2020[^\u3010\u3011]*\u3011|[\ue200-\ue206]"
)
_HIDDEN = "is_visually_hidden_from_conversation"
_CONTEXT = ("user_editable_context", "model_editable_context")
_MARKS = (("image", IMAGE), ("audio", AUDIO), ("video", VIDEO))


class ChatGPT:
    """Reads conversations as ChatGPT's data export has them."""

    name: SourceName = "chatgpt"

    def matches(self, value: Json) -> bool:
        """A ``mapping`` of nodes, each with a message or a place in the tree; also one that is broken."""
        return "mapping" in value and ("current_node" in value or "create_time" in value or "title" in value)

    def read(self, value: Json, options: ReadOptions) -> Iterator[Draft]:
        """The branches of ``mapping``; the last one ends at ``current_node``."""
        mapping = value.get("mapping")
        if not isinstance(mapping, dict):
            raise Unusable(Reason.WRONG_VALUE, "mapping is not an object")
        nodes = {id: node for id, node in mapping.items() if isinstance(node, dict)}
        parents = {id: node["parent"] for id, node in nodes.items() if isinstance(node.get("parent"), str)}
        tree = Tree(nodes, parents, name_of(value.get("current_node")))
        for branch in tree.branches(every=options.every_branch):
            yield _draft(value, branch, options)


def _draft(value: Json, branch: Branch, options: ReadOptions) -> Draft:
    turns = _Conversation(options)
    for node in branch.messages:
        turns.add(record(node.get("message")))
    if not branch.complete:
        turns.dropped["missing_parent"] += 1
    messages, times = turns.finished()
    return Draft(
        messages,
        source_id=name_of(value.get("conversation_id")) or name_of(value.get("id")),
        branch=branch.leaf,
        title=name_of(value.get("title")),
        created_at=moment(value.get("create_time")),
        updated_at=moment(value.get("update_time")),
        models=tuple(turns.models) or tuple(filter(None, [name_of(value.get("default_model_slug"))])),
        times=times,
        dropped=turns.dropped,
    )


class _Conversation(Turns):
    """Turns made of ChatGPT's messages."""

    def __init__(self, options: ReadOptions) -> None:
        super().__init__()
        self.models: dict[str, None] = {}
        self._keep_hidden = options.keep_hidden

    def add(self, message: Json) -> None:
        """Add one message of the branch."""
        content = record(message.get("content"))
        kind = text_of(content.get("content_type"))
        role = text_of(record(message.get("author")).get("role"))
        if not message or not content:
            return
        if kind in _CONTEXT:
            self._add_context(content)
        elif record(message.get("metadata")).get(_HIDDEN) or message.get("weight") == 0:
            self.dropped["hidden_message"] += 1
        elif role == "assistant":
            self._add_assistant(message, content, kind)
        elif role == "tool":
            name = name_of(record(message.get("author")).get("name"))
            self.answer(_text(content, kind), name=name, time=moment(message.get("create_time")))
        elif role == "user":
            text = "\n".join(filter(None, [*_attached(message), _text(content, kind)]))
            self.say("user", text, time=moment(message.get("create_time")))
        elif role == "system":
            if text := _text(content, kind).strip():
                self.say("system", text, time=moment(message.get("create_time")))
        else:
            self.dropped["unknown_role"] += 1

    def _add_context(self, content: Json) -> None:
        parts = [text_of(content.get(key)) for key in ("user_profile", "user_instructions", "model_set_context")]
        text = "\n\n".join(filter(None, map(str.strip, parts)))
        if text and self._keep_hidden:
            self.say("system", text)
        elif text:
            self.dropped["hidden_context"] += 1

    def _add_assistant(self, message: Json, content: Json, kind: str) -> None:
        time = moment(message.get("create_time"))
        if slug := name_of(record(message.get("metadata")).get("model_slug")):
            self.models.pop(slug, None)
            self.models[slug] = None
        recipient = name_of(message.get("recipient")) or "all"
        if kind == "thoughts":
            self.say("assistant", "", reasoning=_thoughts(content), time=time)
        elif kind == "reasoning_recap":
            self.dropped["reasoning_recap"] += 1
        elif recipient != "all":
            id = name_of(message.get("id")) or str(time)
            self.call(f"call_{id}", recipient, _arguments(_text(content, kind)), time=time)
        elif kind == "code":
            self.say("assistant", _fenced(content, _text(content, kind)), time=time)
        else:
            self.say("assistant", _CITATION.sub("", _text(content, kind)), time=time)


def _text(content: Json, kind: str) -> str:
    """The text of a message's content, with marks for what is not text."""
    if kind == "tether_quote":
        return "\n".join(filter(None, (text_of(content.get(key)) for key in ("title", "url", "text"))))
    parts = content.get("parts")
    if isinstance(parts, list):
        heard = any(record(part).get("content_type") == "audio_transcription" for part in parts)
        found = [_part(part, heard) for part in parts]
        return "\n".join(filter(None, found))
    for key in ("text", "result", "summary", "content"):
        if text := text_of(content.get(key)):
            return text
    return ""


def _part(part: object, heard: bool) -> str:
    if not isinstance(part, dict):
        return text_of(part)
    kind = text_of(part.get("content_type"))
    if text := text_of(part.get("text")) or text_of(part.get("result")):
        return text
    # Spoken words come twice: as text, and as the recording.
    if heard and ("audio" in kind or "video" in kind):
        return ""
    if mark := next((mark for word, mark in _MARKS if word in kind), None):
        return mark
    return file_mark(None) if "asset_pointer" in part else ""


def _attached(message: Json) -> list[str]:
    """Marks for attached files; pictures have theirs in the parts."""
    found = records(record(message.get("metadata")).get("attachments"))
    files = [one for one in found if not text_of(one.get("mime_type") or one.get("mimeType")).startswith("image/")]
    return [file_mark(name_of(one.get("name"))) for one in files]


def _thoughts(content: Json) -> str:
    thoughts = [
        (text_of(one.get("summary")), text_of(one.get("content"))) for one in records(content.get("thoughts"))
    ]
    texts = ["\n".join(filter(None, thought)) for thought in thoughts] or [_text(content, "thoughts")]
    return "\n\n".join(filter(None, texts))


def _arguments(text: str) -> str:
    """What was sent to a tool as a JSON object: as it is where it is one, else as its one field ``input``."""
    try:
        known = isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        known = False
    return text if known else orjson.dumps({"input": text}).decode()


def _fenced(content: Json, text: str) -> str:
    language = text_of(content.get("language"))
    return f"```{'' if language == 'unknown' else language}\n{text}\n```" if text.strip() else ""
