"""What a handler yields while it generates: plain data, a few fields each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One of the likeliest tokens at a position.

    Attributes:
        token: the token's text; U+FFFD where its bytes are no whole UTF-8 character.
        logprob: natural logarithm of its probability before any sampler changed it.
        raw: the token's own bytes.
    """

    token: str
    logprob: float
    raw: bytes


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token with its log probability, and the likeliest at its place, best first."""

    token: str
    logprob: float
    raw: bytes
    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call: ``id`` and ``name`` come with its first piece, ``arguments`` (JSON text) in parts."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """New output of one choice.

    Attributes:
        index: which of the ``n`` choices.
        text: text to append to the answer; whole UTF-8 characters only.
        reasoning: text to append to the reasoning, kept apart from the answer.
        tool_calls: pieces of tool calls.
        logprobs: one entry for each token that this delta covers, when asked for.
        finish_reason: set on the last delta of a choice, and on no other.
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted over all choices; the last event of every finished generation.

    Attributes:
        prompt_tokens: tokens of the prompt, once, however many choices.
        completion_tokens: tokens generated, stop tokens included.
        cached_tokens: how many prompt tokens came out of a prefix cache.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


Event = Delta | Usage


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors for a list of inputs.

    Attributes:
        vectors: one per input, in order, each of the model's dimension, L2-normalized.
        prompt_tokens: tokens of all inputs.
    """

    vectors: list[list[float]] = field(default_factory=list)
    prompt_tokens: int = 0
