"""One choice's way from token bytes to deltas: UTF-8, stop strings, reasoning, tool calls, log probabilities."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from serve.handlers.llamacpp.reasoning import ReasoningSplitter, State
from serve.handlers.llamacpp.text import StopMatcher
from serve.handlers.llamacpp.tools import ToolCallParser
from serve.protocol.events import Delta, FinishReason, TokenLogprob, ToolCallDelta


@dataclass(frozen=True, slots=True)
class OutputForm:
    """What to look for in an output.

    Attributes:
        stop: texts that end it.
        reasoning: where it stands to its reasoning.
        tools: functions that it may call.
        one_call: end it after its first call.
        logprobs: whether log probabilities come with its tokens.
    """

    stop: tuple[str, ...] = ()
    reasoning: State = "after"
    tools: Collection[str] = ()
    one_call: bool = False
    logprobs: bool = False


class Output:
    """What one choice has said so far. Streamed answers and whole ones are the same deltas.

    Attributes:
        finished: whether its last delta was given out.
    """

    def __init__(self, index: int, form: OutputForm) -> None:
        self._index = index
        self._form = form
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = StopMatcher(form.stop)
        self._reasoning = None if form.reasoning == "after" else ReasoningSplitter(form.reasoning)
        self._tools = ToolCallParser(form.tools, one=form.one_call) if form.tools else None
        self._decoded = 0  # characters that came out of the decoder
        self._passed = 0  # of these, how many stand before any stop string
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()  # by the place of the token's first character
        self._covered: list[TokenLogprob] = []
        self.finished = False

    def feed(
        self, piece: bytes, logprob: TokenLogprob | None = None, *, end: FinishReason | None = None
    ) -> Delta | None:
        """Take one token's bytes; give what can now be shown, if anything.

        Args:
            end: the reason, when this is the choice's last token. A stop string sets one of its own.
        """
        if logprob is not None:
            self._waiting.append((self._decoded, logprob))
        # Bytes of a character that never became whole are dropped at the end.
        text = self._decoder.decode(piece)
        self._decoded += len(text)
        text = self._stops.feed(text)
        if self._stops.found:
            end = "stop"
        elif end:
            text += self._stops.flush()
        self._pass(len(text), everything=end is not None and not self._stops.found)
        return self._delta(text, end)

    def _pass(self, count: int, *, everything: bool) -> None:
        """Count the log probabilities of the tokens that begin in the passed text as covered."""
        self._passed += count
        while self._waiting and (everything or self._waiting[0][0] < self._passed):
            self._covered.append(self._waiting.popleft()[1])

    def _delta(self, text: str, end: FinishReason | None) -> Delta | None:
        reasoning, text = self._split(text, flush=end is not None)
        text, calls = self._take_calls(text, flush=end is not None)
        if self._tools and self._tools.done:
            end = "stop"
        if end is None and not (reasoning or text or calls):
            return None
        if end == "stop" and self._tools and self._tools.calls:
            end = "tool_calls"
        self.finished = end is not None
        covered, self._covered = self._covered, []
        return Delta(
            index=self._index,
            text=text,
            reasoning=reasoning,
            tool_calls=calls,
            logprobs=tuple(covered) if self._form.logprobs else None,
            finish_reason=end,
        )

    def _split(self, text: str, *, flush: bool) -> tuple[str, str]:
        if self._reasoning is None:
            return "", text
        reasoning, answer = self._reasoning.feed(text)
        if flush:
            more_reasoning, more_answer = self._reasoning.flush()
            reasoning, answer = reasoning + more_reasoning, answer + more_answer
        return reasoning, answer

    def _take_calls(self, text: str, *, flush: bool) -> tuple[str, tuple[ToolCallDelta, ...]]:
        if self._tools is None:
            return text, ()
        text, calls = self._tools.feed(text)
        if flush:
            more_text, more_calls = self._tools.flush()
            text, calls = text + more_text, calls + more_calls
        return text, calls
