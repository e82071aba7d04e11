"""What comes back: OpenAI's chunks and answers as types, and as this program's events.

Servers differ in small things: ``reasoning`` for ``reasoning_content``, tool calls without index or id, finish
reasons of their own, null for what is not there. Anything that cannot be read is a ``ValidationError``.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from serve.protocol.chat import new_id
from serve.protocol.events import Delta, Event, FinishReason, TokenLogprob, ToolCallDelta, TopLogprob, Usage

#: As many tools as a request may bring. A collector makes room for each index, so it has to be bounded.
MAX_TOOL_CALLS = 128

_FINISH: dict[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}

Count = Annotated[int, Field(ge=0, lt=2**53)]
Bytes = list[Annotated[int, Field(ge=0, le=255)]]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)


class _Function(_Wire):
    name: str | None = None
    arguments: str | None = None


class _Call(_Wire):
    index: Annotated[int, Field(ge=0, lt=MAX_TOOL_CALLS)] | None = None
    id: str | None = None
    function: _Function | None = None


class _Top(_Wire):
    token: str
    logprob: float
    raw_bytes: Annotated[Bytes | None, Field(alias="bytes")] = None

    def raw(self) -> bytes:
        return self.token.encode("utf-8", "replace") if self.raw_bytes is None else bytes(self.raw_bytes)


class _Token(_Top):
    top_logprobs: list[_Top] | None = None


class _Logprobs(_Wire):
    """Both of OpenAI's forms: a chat's has ``content``, a completion's the three lists."""

    content: list[_Token] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Output(_Wire):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[_Call], Field(max_length=MAX_TOOL_CALLS)] | None = None


class _Choice(_Wire):
    index: Annotated[int, Field(ge=0)] = 0
    delta: _Output | None = None
    message: _Output | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Details(_Wire):
    cached_tokens: Count | None = None


class _Usage(_Wire):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None


class Chunk(_Wire):
    """One event of a stream, or a whole answer: of chats or completions alike."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


class EmbeddingData(_Wire):
    """One vector: numbers, or base64 of little-endian 32-bit floats."""

    index: Annotated[int, Field(ge=0)] | None = None
    embedding: list[float] | str


class EmbeddingAnswer(_Wire):
    """The answer of ``/embeddings``."""

    data: list[EmbeddingData] | None = None
    usage: _Usage | None = None
    error: Any = None


class Events:
    """Turns the chunks of one answer into events; the token counts are held back to the end.

    Args:
        choices: how many were asked for; one more is an error.
    """

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._usage = Usage(0, 0)

    @property
    def complete(self) -> bool:
        """Whether each choice that was asked for has ended."""
        return len(self._finished) == self._choices

    @property
    def empty(self) -> bool:
        """Whether no choice has come yet."""
        return not self._begun

    def add(self, chunk: Chunk) -> list[Event]:
        """The events of a chunk.

        Raises:
            ValueError: it has a choice that nobody asked for.
        """
        if chunk.usage is not None:
            self._usage = usage_of(chunk.usage)
        found: list[Event] = []
        for choice in chunk.choices or ():
            if choice.index >= self._choices:
                raise ValueError(f"choice {choice.index} of {self._choices}")
            self._begun.add(choice.index)
            if choice.index not in self._finished and (delta := _delta(choice)) is not None:
                found.append(delta)
            if choice.finish_reason:
                self._finished.add(choice.index)
        return found

    def end(self) -> list[Event]:
        """Ends of choices that the server has not ended itself, and the token counts, zeros where it sent none."""
        open_choices = [index for index in range(self._choices) if index not in self._finished]
        return [*(Delta(index, finish_reason="stop") for index in open_choices), self._usage]


def usage_of(found: _Usage) -> Usage:
    """Token counts; 0 for what is not told."""
    cached = found.prompt_tokens_details.cached_tokens if found.prompt_tokens_details else None
    return Usage(found.prompt_tokens or 0, found.completion_tokens or 0, cached or 0)


def _delta(choice: _Choice) -> Delta | None:
    """A choice's new output; none where there is nothing new, as in a chunk with the role only."""
    output = choice.delta or choice.message or _Output()
    text = (output.content or "") + (output.refusal or "") + (choice.text or "")
    reasoning = output.reasoning_content or output.reasoning or ""
    calls = tuple(_call(call, place) for place, call in enumerate(output.tool_calls or ()))
    logprobs = None if choice.logprobs is None else _logprobs(choice.logprobs)
    finish = _FINISH.get(choice.finish_reason, "stop") if choice.finish_reason else None
    if not (text or reasoning or calls or logprobs or finish):
        return None
    return Delta(choice.index, text, reasoning, calls, logprobs, finish)


def _call(call: _Call, place: int) -> ToolCallDelta:
    function = call.function or _Function()
    name = function.name or None
    id = call.id or (new_id("call") if name else None)
    return ToolCallDelta(place if call.index is None else call.index, id, name, function.arguments or "")


def _logprobs(found: _Logprobs) -> tuple[TokenLogprob, ...] | None:
    if found.content is not None:
        return tuple(
            TokenLogprob(
                one.token,
                one.logprob,
                one.raw(),
                tuple(TopLogprob(other.token, other.logprob, other.raw()) for other in one.top_logprobs or ()),
            )
            for one in found.content
        )
    if found.tokens is None:
        return None
    values = found.token_logprobs or []
    tops = found.top_logprobs or []
    if len(values) != len(found.tokens) or len(tops) not in (0, len(found.tokens)):
        raise ValueError("logprobs of other lengths than their tokens")
    return tuple(
        TokenLogprob(
            token,
            # OpenAI gives none for the first token of an echoed prompt; there is nothing before it.
            value or 0.0,
            token.encode("utf-8", "replace"),
            tuple(
                TopLogprob(other, likelihood, other.encode("utf-8", "replace"))
                for other, likelihood in ((tops[place] or {}) if tops else {}).items()
            ),
        )
        for place, (token, value) in enumerate(zip(found.tokens, values, strict=True))
    )
