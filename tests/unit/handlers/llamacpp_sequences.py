"""Sequences and adapters of the llama.cpp handler, without llama.cpp."""

from __future__ import annotations

from array import array

from serve.handlers.llamacpp.adapters import Adapter
from serve.handlers.llamacpp.output import OutputForm
from serve.handlers.llamacpp.plan import Plan
from serve.handlers.llamacpp.sequence import Sequence, Stream
from serve.protocol.requests import CompletionRequest
from serve.protocol.sampling import SamplingDefaults, resolve


class Numbered(Adapter):
    """An adapter without llama.cpp."""

    def __init__(self, number: int) -> None:
        self.number = number


def choices(*tokens: int, n: int = 1, adapter: Adapter | None = None) -> list[Sequence]:
    """The sequences of one request with this prompt."""
    sampling = resolve(CompletionRequest(model="m", prompt="", n=n), SamplingDefaults())
    return Stream(Plan(array("i", tokens), sampling, OutputForm(), adapter=adapter)).choices


def sequence(*tokens: int, done: int = 0, adapter: Adapter | None = None) -> Sequence:
    """A sequence of which ``done`` tokens are in the cache."""
    [found] = choices(*tokens, adapter=adapter)
    found.done = done
    return found
