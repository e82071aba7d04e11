"""OpenAI's chat JSONL, as fine-tuning takes it: ``messages`` with tools and weights, and pairs of answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import orjson

from serve.store.values import clean_json
from train.dataset.exports.problems import Reason, Unusable
from train.dataset.exports.reader import Draft, ReadOptions
from train.dataset.exports.turns import AUDIO, IMAGE, Turns, file_mark
from train.dataset.exports.values import moment, name_of, record, records, text_of
from train.dataset.rows import Message, SourceName

Json = dict[str, Any]

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class OpenAIChat:
    """Reads rows of fine-tuning files, supervised (``messages``) and of preferences (``preferred_output``)."""

    name: SourceName = "openai"

    def matches(self, value: Json) -> bool:
        """Messages with roles, under ``messages`` or ``input.messages``."""
        messages = _input(value).get("messages")
        if not isinstance(messages, list):
            return False
        return not messages or any("role" in message for message in records(messages))

    def read(self, value: Json, options: ReadOptions) -> Iterator[Draft]:
        """The one conversation. The preferred answer ends it, and the other one is ``rejected``."""
        asked = _input(value)
        messages = asked.get("messages")
        if not isinstance(messages, list):
            raise Unusable(Reason.WRONG_VALUE, "messages is not a list")
        given = [*messages, *records(value.get("preferred_output"))]
        turns = Turns()
        add_messages(turns, given)
        found, _ = turns.finished()
        yield Draft(
            found,
            created_at=moment(value.get("created_at")) or moment(value.get("created")),
            models=tuple(filter(None, [name_of(value.get("model"))])),
            tools=tools_of(asked),
            rejected=_rejected(value),
            dropped=turns.dropped,
        )


def add_messages(turns: Turns, messages: list[Any]) -> None:
    """Add messages of OpenAI's chat form.

    Raises:
        Unusable: one is no object, or of no known role.
    """
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise Unusable(Reason.BAD_MESSAGE, f"each message is an object with a role of {', '.join(_ROLES)}")
        _add(turns, message)


def tools_of(asked: Json) -> tuple[Json, ...]:
    """The functions on offer, also where they come in the older form ``functions``."""
    given = records(asked.get("tools"))
    given += [{"type": "function", "function": function} for function in records(asked.get("functions"))]
    return tuple(record(clean_json(tool, "tools")) for tool in given)


def content_text(content: object) -> str:
    """A message's content as text, with marks for pictures, sound and files."""
    if not isinstance(content, list):
        return text_of(content)
    return "\n".join(filter(None, (_part(part) for part in records(content))))


def _input(value: Json) -> Json:
    return record(value.get("input")) or value


def _add(turns: Turns, message: Json) -> None:
    role, text = message["role"], content_text(message.get("content"))
    if role in ("tool", "function"):
        turns.answer(text, call_id=name_of(message.get("tool_call_id")), name=name_of(message.get("name")))
        return
    weight: Literal[0, 1] | None = None
    reasoning = ""
    calls: list[tuple[str, Json]] = []
    if role == "assistant":
        weight = {0: 0, 1: 1}.get(message["weight"]) if isinstance(message.get("weight"), int) else None  # type: ignore[assignment]
        reasoning = text_of(message.get("reasoning_content"))
        text = text or text_of(message.get("refusal"))
        calls = _calls(message)
    if text or reasoning or not calls:
        turns.say(role, text, reasoning=reasoning, name=name_of(message.get("name")), weight=weight)
    for id, function in calls:
        turns.call(id, name_of(function.get("name")) or "tool", _arguments(function.get("arguments")))


def _calls(message: Json) -> list[tuple[str, Json]]:
    calls = [
        (name_of(call.get("id")) or f"call_{number}", record(call.get("function")))
        for number, call in enumerate(records(message.get("tool_calls")))
    ]
    if function := record(message.get("function_call")):
        calls.append((f"call_{name_of(function.get('name'))}", function))
    return calls


def _arguments(given: object) -> str:
    return text_of(given) if isinstance(given, str) else orjson.dumps(clean_json(record(given), "arguments")).decode()


def _part(part: Json) -> str:
    kind = text_of(part.get("type"))
    if "image" in kind:
        return IMAGE
    if "audio" in kind:
        return AUDIO
    if kind in ("file", "input_file"):
        return file_mark(name_of(record(part.get("file")).get("filename")))
    return text_of(part.get("text")) or text_of(part.get("refusal"))


def _rejected(value: Json) -> tuple[Message, ...]:
    turns = Turns()
    add_messages(turns, records(value.get("non_preferred_output")))
    return turns.finished()[0]
