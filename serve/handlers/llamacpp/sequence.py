"""What the engine runs: a request's choices, each a sequence, and the stream that carries what they say."""

from __future__ import annotations

import asyncio
import math
import secrets
from array import array
from collections.abc import Sequence as Items

from serve.errors import GroupQwenError
from serve.handlers.llamacpp.adapters import Adapter
from serve.handlers.llamacpp.model import Model
from serve.handlers.llamacpp.output import Output
from serve.handlers.llamacpp.plan import Plan
from serve.handlers.llamacpp.sampler import Sampler
from serve.handlers.llamacpp.sight import PromptPicture
from serve.protocol.events import Event, Usage


class Stream:
    """One request under way. The engine's thread counts in it; events pass through it on the event loop.

    Attributes:
        plan: what was asked.
        choices: its sequences, by index.
        over: whether nothing more is to be generated for it: done, failed or given up.
        sent_at: when something of it was last handed to the event loop, by ``time.monotonic``.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        seed = secrets.randbits(32) if plan.sampling.seed is None else plan.sampling.seed
        self.choices = [Sequence(self, index, seed + index) for index in range(plan.sampling.n)]
        self.over = False
        self.sent_at = -math.inf
        self._events: list[Event] = []
        self._error: GroupQwenError | None = None
        self._news = asyncio.Event()

    def usage(self) -> Usage:
        """Tokens of all choices; the prompt counts once."""
        return Usage(
            prompt_tokens=len(self.plan.prompt),
            completion_tokens=sum(choice.generated for choice in self.choices),
            cached_tokens=self.choices[0].cached,
        )

    def put(self, events: Items[Event], error: GroupQwenError | None = None) -> None:
        """Pass on what became ready; on the event loop."""
        self._events.extend(events)
        self._error = self._error or error
        self._news.set()

    async def take(self) -> Items[Event]:
        """Everything that became ready since the last call; waits for something.

        Raises:
            GroupQwenError: the engine gave the request up.
        """
        await self._news.wait()
        if self._events:
            events, self._events = self._events, []
            if self._error is None:
                self._news.clear()
            return events
        assert self._error is not None
        raise self._error


class Sequence:
    """One choice of a request.

    Attributes:
        tokens: the prompt and what was generated.
        pictures: those of the prompt, in order.
        done: how many of them are in the cache.
        generated: how many were generated, end tokens included.
        cached: prompt tokens that were in the cache when it began.
    """

    def __init__(self, stream: Stream, index: int, seed: int) -> None:
        self.stream = stream
        self.index = index
        self.tokens: array[int] = stream.plan.prompt[:]
        self.pictures = stream.plan.pictures
        self.done = 0
        self.generated = 0
        self.cached = 0
        self.output = Output(index, stream.plan.form)
        self._seed = seed
        self._sampler: Sampler | None = None

    @property
    def adapter(self) -> Adapter | None:
        """What the model is changed by while it runs."""
        return self.stream.plan.adapter

    @property
    def adapter_number(self) -> int:
        """The number of its adapter; 0 is the model alone."""
        return self.adapter.number if self.adapter else 0

    @property
    def remaining(self) -> int:
        """Tokens that are not in the cache yet; one while it generates."""
        return len(self.tokens) - self.done

    @property
    def picture(self) -> PromptPicture | None:
        """The picture whose turn it is in the prompt, begun or not."""
        return next((one for one in self.pictures if one.start <= self.done < one.end), None)

    @property
    def words(self) -> int:
        """Tokens that can be decoded before the next picture; 0 where one is due."""
        ahead = (one.start for one in self.pictures if one.end > self.done)
        return max(0, min(ahead, default=len(self.tokens)) - self.done)

    def position(self, index: int) -> int:
        """llama.cpp's position of the token at ``index``, which is not within a picture."""
        return index - sum(one.length - one.advance for one in self.pictures if one.end <= index)

    def whole(self, length: int) -> int:
        """As many of the first ``length`` tokens as do not cut a picture in two."""
        return min((one.start for one in self.pictures if one.start < length < one.end), default=length)

    @property
    def generates(self) -> bool:
        """Whether its next decode gives only the next token."""
        return self.remaining == 1 and self.generated > 0

    def sampler(self, model: Model) -> Sampler:
        """Its sampler, made when it is first needed."""
        if self._sampler is None:
            plan = self.stream.plan
            said = array("i", (token for token in self.tokens if token >= 0)) if self.pictures else self.tokens
            self._sampler = Sampler(model, plan.sampling, self._seed, said, plan.grammar)
        return self._sampler

    def release(self) -> None:
        """Free what llama.cpp holds for it; it will not be sampled again. Stream and sequence know each other, so
        without this the memory would stay until Python looks for cycles."""
        self._sampler = None
