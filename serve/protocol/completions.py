"""Text completions on the wire: stream chunks, and the whole answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from serve.protocol.chat import new_id, usage_body
from serve.protocol.events import Delta, Event, TokenLogprob, Usage
from serve.protocol.sse import frame

Json = dict[str, Any]


class CompletionEncoder:
    """Writes the events of one completion as SSE frames, and gathers them into one ``text_completion`` object."""

    def __init__(self, model: str, include_usage: bool) -> None:
        self.id = new_id("cmpl")
        self._head: Json = {"id": self.id, "object": "text_completion", "created": int(time.time()), "model": model}
        self._include_usage = include_usage
        self._usage = Usage(0, 0)
        self._choices: dict[int, Json] = {}

    def frames(self, events: Sequence[Event]) -> bytes:
        """The frames of ``events``."""
        self.add(events)
        choices = [self._choice(event) for event in events if isinstance(event, Delta)]
        usage: Json = {"usage": None} if self._include_usage else {}
        return b"".join(frame({**self._head, "choices": [choice], **usage}) for choice in choices)

    def end(self) -> bytes:
        """The frame with the usage, when it was asked for."""
        if not self._include_usage:
            return b""
        return frame({**self._head, "choices": [], "usage": usage_body(self._usage)})

    def add(self, events: Sequence[Event]) -> None:
        """Take some events into the whole answer."""
        for event in events:
            if isinstance(event, Usage):
                self._usage = event
                continue
            piece = self._choice(event)
            whole = self._choices.setdefault(event.index, piece)
            if whole is piece:
                continue
            whole["text"] += piece["text"]
            whole["finish_reason"] = piece["finish_reason"] or whole["finish_reason"]
            if piece["logprobs"]:
                whole["logprobs"] = whole["logprobs"] or {name: [] for name in piece["logprobs"]}
                for name, values in piece["logprobs"].items():
                    whole["logprobs"][name] += values

    def body(self) -> Json:
        """The whole answer."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        return {**self._head, "choices": choices, "usage": usage_body(self._usage)}

    def _choice(self, delta: Delta) -> Json:
        return {
            "index": delta.index,
            "text": delta.text,
            "logprobs": None if delta.logprobs is None else _legacy(delta.logprobs),
            "finish_reason": delta.finish_reason,
        }


def _legacy(tokens: Sequence[TokenLogprob]) -> Json:
    """Log probabilities in the older form of this endpoint."""
    return {
        "tokens": [one.token for one in tokens],
        "token_logprobs": [one.logprob for one in tokens],
        "top_logprobs": [{other.token: other.logprob for other in one.top} for one in tokens],
    }
