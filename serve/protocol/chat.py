"""Chat completions on the wire: stream chunks, and the whole answer that the same chunks add up to."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from serve.protocol.events import Delta, Event, TokenLogprob, TopLogprob, Usage

Json = dict[str, Any]


def new_id(prefix: str) -> str:
    """A fresh id such as ``chatcmpl-5f...``."""
    return f"{prefix}-{secrets.token_hex(12)}"


def usage_body(usage: Usage) -> Json:
    """Token counts as OpenAI names them."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def chunk_choice(delta: Delta) -> Json:
    """A delta as one entry of a chunk's ``choices``."""
    body: Json = {}
    if delta.text:
        body["content"] = delta.text
    if delta.reasoning:
        body["reasoning_content"] = delta.reasoning
    if delta.tool_calls:
        body["tool_calls"] = [
            {
                "index": call.index,
                **({"id": call.id, "type": "function"} if call.id else {}),
                "function": {**({"name": call.name} if call.name else {}), "arguments": call.arguments},
            }
            for call in delta.tool_calls
        ]
    logprobs = (
        None if delta.logprobs is None else {"content": [_token(one) for one in delta.logprobs], "refusal": None}
    )
    return {"index": delta.index, "delta": body, "logprobs": logprobs, "finish_reason": delta.finish_reason}


def _token(one: TokenLogprob) -> Json:
    return {**_alternative(one), "top_logprobs": [_alternative(other) for other in one.top]}


def _alternative(one: TokenLogprob | TopLogprob) -> Json:
    return {"token": one.token, "logprob": one.logprob, "bytes": list(one.raw)}


class ChatEncoder:
    """Writes the events of one answer as finished SSE frames; what is the same in each is encoded once."""

    def __init__(self, model: str, choices: int, include_usage: bool, completion_id: str | None = None) -> None:
        self.id = completion_id or new_id("chatcmpl")
        head = {"id": self.id, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._text_head = self._head + b'{"index":0,"delta":{"content":'
        end = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._text_end = b'},"logprobs":null,"finish_reason":null}' + end
        self._end = end
        self._choices = choices
        self._include_usage = include_usage
        self._begun = False
        self._usage: Usage | None = None

    def frames(self, events: Sequence[Event]) -> bytes:
        """The frames of ``events``; the first call puts each choice's role before them."""
        parts = [] if self._begun else [self._role(index) for index in range(self._choices)]
        self._begun = True
        for event in events:
            if isinstance(event, Usage):
                self._usage = event
            elif (
                event.index
                or event.finish_reason
                or event.tool_calls
                or event.reasoning
                or event.logprobs is not None
            ):
                parts.append(self._head + orjson.dumps(chunk_choice(event)) + self._end)
            else:
                parts.append(self._text_head + orjson.dumps(event.text) + self._text_end)
        return b"".join(parts)

    def end(self) -> bytes:
        """The frame with the usage, when it was asked for."""
        if not self._include_usage or self._usage is None:
            return b""
        return self._head + b'],"usage":' + orjson.dumps(usage_body(self._usage)) + b"}\n\n"

    def _role(self, index: int) -> bytes:
        role = {
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        return self._head + orjson.dumps(role) + self._end


class JoinedChoices:
    """Adds stream chunks up to whole choices. Non-stream answers are made by this too, so both always agree."""

    def __init__(self) -> None:
        self._choices: dict[int, Json] = {}

    def add(self, choices: Iterable[Json]) -> None:
        """Take the ``choices`` of one chunk."""
        for chunk in choices:
            index = chunk["index"]
            choice = self._choices.setdefault(
                index,
                {
                    "index": index,
                    "message": {"role": "assistant", "content": ""},
                    "logprobs": None,
                    "finish_reason": None,
                },
            )
            self._extend(choice, chunk)

    def finished(self) -> list[Json]:
        """The choices in order; content is null where a choice only calls tools, as in OpenAI's answers."""
        for choice in self._choices.values():
            message = choice["message"]
            if message.get("tool_calls") and not message["content"]:
                message["content"] = None
        return [self._choices[index] for index in sorted(self._choices)]

    def _extend(self, choice: Json, chunk: Json) -> None:
        delta, message = chunk["delta"], choice["message"]
        if delta.get("content"):
            message["content"] += delta["content"]
        if delta.get("reasoning_content"):
            message["reasoning_content"] = message.get("reasoning_content", "") + delta["reasoning_content"]
        for piece in delta.get("tool_calls") or ():
            calls = message.setdefault("tool_calls", [])
            while len(calls) <= piece["index"]:
                calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
            call = calls[piece["index"]]
            call["id"] = piece.get("id") or call["id"]
            function = piece.get("function") or {}
            call["function"]["name"] += function.get("name") or ""
            call["function"]["arguments"] += function.get("arguments") or ""
        if chunk.get("logprobs"):
            if choice["logprobs"] is None:
                choice["logprobs"] = {"content": [], "refusal": None}
            choice["logprobs"]["content"] += chunk["logprobs"]["content"]
        choice["finish_reason"] = chunk.get("finish_reason") or choice["finish_reason"]


class ChatCollector:
    """Gathers the events of one answer into OpenAI's ``chat.completion`` object."""

    def __init__(self, model: str) -> None:
        self.id = new_id("chatcmpl")
        self._model = model
        self._created = int(time.time())
        self._joined = JoinedChoices()
        self._usage = Usage(0, 0)

    def add(self, events: Sequence[Event]) -> None:
        """Take some events."""
        for event in events:
            if isinstance(event, Usage):
                self._usage = event
            else:
                self._joined.add([chunk_choice(event)])

    def body(self) -> Json:
        """The whole answer."""
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": self._joined.finished(),
            "usage": usage_body(self._usage),
        }
