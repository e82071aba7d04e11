"""The reasoning of models that write ``<think>...</think>`` before their answer, told apart from it."""

from __future__ import annotations

from typing import Literal

from serve.handlers.llamacpp.text import overlap

OPEN = "<think>"
CLOSE = "</think>"

#: Where an output stands: it may begin with ``<think>``; it is inside, as when the prompt ends with ``<think>``; or
#: the reasoning is over.
State = Literal["before", "inside", "after"]


def state_after(prompt: str) -> State:
    """Where the output of a reasoning model stands that follows ``prompt``."""
    end = prompt.rstrip()
    if end.endswith(OPEN):
        return "inside"
    return "after" if end.endswith(CLOSE) else "before"


class ReasoningSplitter:
    """Splits text that comes in pieces into reasoning and answer, without the marks and the white space at them."""

    def __init__(self, state: State) -> None:
        self._state: State = state
        self._held = ""
        self._trims = state == "inside"

    def feed(self, text: str) -> tuple[str, str]:
        """The new reasoning and the new answer."""
        self._held += text
        if self._state == "before":
            self._look_for_open()
        reasoning = self._take_reasoning() if self._state == "inside" else ""
        return reasoning, self._take_answer() if self._state == "after" else ""

    def flush(self) -> tuple[str, str]:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        if self._state == "inside":
            return held.rstrip(), ""
        return "", held

    def _look_for_open(self) -> None:
        begin = self._held.lstrip()
        if begin.startswith(OPEN):
            self._state, self._held, self._trims = "inside", begin[len(OPEN) :], True
        elif not OPEN.startswith(begin):
            self._state = "after"

    def _take_reasoning(self) -> str:
        if self._trims:
            self._held = self._held.lstrip()
            self._trims = not self._held
        end = self._held.find(CLOSE)
        if end >= 0:
            reasoning, self._held = self._held[:end].rstrip(), self._held[end + len(CLOSE) :]
            self._state, self._trims = "after", True
            return reasoning
        ready = self._held[: len(self._held) - overlap(self._held, CLOSE)].rstrip()
        self._held = self._held[len(ready) :]
        return ready

    def _take_answer(self) -> str:
        if self._trims:
            self._held = self._held.lstrip()
            self._trims = not self._held
        answer, self._held = self._held, ""
        return answer
