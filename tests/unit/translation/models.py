"""A model that translates by a rule, so that tests know what must come out."""

from __future__ import annotations

import re
from collections.abc import Callable

from serve.handlers.base import EventStream
from serve.protocol.events import Delta, FinishReason, Usage
from serve.protocol.requests import ChatRequest
from serve.protocol.sampling import Sampling
from tests.unit.replica.models import Scripted

#: Takes the request and the text in it, gives the translation.
Rule = Callable[[ChatRequest, str], str]


def shouted(request: ChatRequest, text: str) -> str:
    """Every word in capitals; marks are kept."""
    return text.upper()


class Speaker(Scripted):
    """Answers each request for a translation by a rule.

    Attributes:
        prompts: what it was asked, in order.
        finish: why its answers end.
    """

    def __init__(self, rule: Rule = shouted, id: str = "m", **capabilities: int) -> None:
        super().__init__(id=id, **capabilities)
        self.rule = rule
        self.finish: FinishReason = "stop"
        self.prompts: list[str] = []

    async def chat(self, request: ChatRequest, sampling: Sampling) -> EventStream:
        prompt = "\n\n".join(message.text() for message in request.messages)
        self.asked.append((request, sampling))
        self.prompts.append(prompt)
        answer = self.rule(request, text_of(prompt))
        yield (Delta(text=answer),)
        yield (Delta(finish_reason=self.finish), Usage(10, 5))


def text_of(prompt: str) -> str:
    """The text in a prompt, which stands after an empty line."""
    return prompt.rpartition("\n\n")[2]


def losing(request: ChatRequest, text: str) -> str:
    """A model that keeps no mark."""
    return re.sub(r"\{\d+\}", "", text).upper()


def saying(answer: str) -> Rule:
    """A model that says the same to everything."""
    return lambda request, text: answer
