"""Continuous batching: one thread that decodes all running sequences together, step by step.

Each step makes one batch of the next token of every sequence that generates, and of pieces of the prompts that are
new, decodes it, samples a token for each sequence, and hands all that became ready to the event loop in one call.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque

from serve.errors import AdapterNotFound, GroupQwenError, InternalError, InvalidRequest, QueueFull, Unavailable
from serve.handlers.base import Load
from serve.handlers.llamacpp import logprobs
from serve.handlers.llamacpp.adapters import Adapter
from serve.handlers.llamacpp.context import NO_ROOM, Context
from serve.handlers.llamacpp.model import Model
from serve.handlers.llamacpp.outbox import Outbox
from serve.handlers.llamacpp.pace import Pace
from serve.handlers.llamacpp.pool import Pool
from serve.handlers.llamacpp.sampler import NoTokenFits
from serve.handlers.llamacpp.sequence import Sequence, Stream
from serve.handlers.llamacpp.slots import Busy, Slot, fill, place, should_wait
from serve.handlers.llamacpp.turns import Turns
from serve.handlers.rate import Rate
from serve.protocol.events import FinishReason
from serve.settings.engines import LlamaCppEngine

logger = logging.getLogger(__name__)

#: Failed steps in a row after which the engine gives itself up.
MAX_FAILURES = 3


class DecodeFailed(Exception):
    """llama.cpp could not decode a batch."""


class Engine:
    """The running sequences of one model. Its methods are for the event loop; only ``close`` waits.

    Args:
        name: the model's id, for errors.
        max_queued: choices that may wait for a slot.
        loop: the event loop that the requests come from.

    Attributes:
        broken: why it can no longer work, if so.
    """

    def __init__(
        self,
        model: Model,
        context: Context,
        settings: LlamaCppEngine,
        *,
        name: str,
        max_queued: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._model = model
        self._context = context
        self._settings = settings
        self._name = name
        self._max_queued = max_queued
        self._loop = loop
        self._slots = [Slot(number) for number in range(settings.slots)]
        # Windowed layers cannot be cut at any token after they were saved.
        self._pool = Pool(context, self._slots, 0 if model.windowed else settings.tokens_aside)
        self._work = threading.Condition()  # guards the queue, admission and closing
        self._queue: deque[Sequence] = deque()
        self._closing = False
        self._holds = False  # no admissions until a sequence ends: the cache was full
        self._step_number = 0
        self._failures = 0
        self._rate = Rate()
        self._pace = Pace()
        self._turns = Turns()
        self._retired: list[Adapter] = []
        self._outbox = Outbox(settings.stream_interval_ms / 1000)
        self.broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"llamacpp-{name}", daemon=True)
        self._thread.start()

    def submit(self, stream: Stream) -> None:
        """Queue every choice of ``stream``.

        Raises:
            InvalidRequest: it has more choices than slots and queue could ever hold.
            QueueFull: too many choices wait already.
            Unavailable: the engine has stopped.
            AdapterNotFound: its adapter was retired.
        """
        count = len(stream.choices)
        if count > len(self._slots) + self._max_queued:
            raise InvalidRequest(f"This model can never run {count} choices at once.", param="n")
        with self._work:
            if self._closing or self.broken:
                raise Unavailable(f"The model {self._name!r} has stopped.")
            adapter = stream.plan.adapter
            if adapter and adapter.retired:
                raise AdapterNotFound(self._name, adapter.name, ())
            idle = sum(_is_free(slot) for slot in self._slots)
            if len(self._queue) + count > idle + self._max_queued:
                raise QueueFull(self._name)
            self._queue.extend(stream.choices)
            self._work.notify()

    def cancel(self, stream: Stream) -> None:
        """Stop all work for ``stream``: its slots are free at the next step."""
        with self._work:
            stream.over = True
            self._leave_queue(stream)
            self._work.notify()

    def retire(self, adapter: Adapter) -> None:
        """Free an adapter as soon as nothing runs on it; nothing new will."""
        with self._work:
            adapter.retired = True
            self._retired.append(adapter)
            self._work.notify()

    def load(self) -> Load:
        """How busy it is."""
        running = self._running()
        with self._work:
            queued = list(self._queue)
        held = sum(slot.held for slot in self._slots)
        return Load(
            slots=len(self._slots),
            active=len(running),
            queued=len(queued),
            queued_tokens=sum(sequence.remaining for sequence in [*running, *queued] if not sequence.generates),
            tokens_per_second=self._rate.per_second(time.monotonic()),
            prompt_tokens_per_second=self._pace.per_second,
            memory_bytes=self._model.size + self._context.memory_bytes + self._pool.bytes_aside,
            # A prefix that sequences share counts for each of them.
            cache_use=min(1.0, held / (self._settings.context * len(self._slots))),
        )

    def close(self) -> None:
        """Stop after the current step, end every request with ``Unavailable``, and free the context. Waits for the
        thread; may be called twice."""
        with self._work:
            self._closing = True
            self._work.notify()
        self._thread.join()

    # What follows runs on the engine's thread.

    def _run(self) -> None:
        while self.broken is None and self._wait_for_work():
            try:
                self._step()
                self._failures = 0
            except Exception as failure:
                logger.exception("a step failed", extra={"model": self._name})
                self._recover(failure)
            self._deliver()
        reason = Unavailable(f"The model {self._name!r} has stopped.", retry_after=1.0)
        with self._work:
            streams = {sequence.stream for sequence in [*self._running(), *self._queue]}
        for stream in streams:
            self._fail(stream, reason)
        self._sweep()
        self._deliver()
        self._context.close()

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do; False when it is time to stop."""
        with self._work:
            self._work.wait_for(lambda: self._closing or self._queue or self._running() or self._retired)
            return not self._closing

    def _step(self) -> None:
        self._step_number += 1
        self._sweep()
        if self._retired:
            self._free_retired()
        self._admit()
        turn = self._turns.next([slot.adapter for slot in self._slots if slot.sequence], time.monotonic())
        busy = [(slot, slot.sequence) for slot in self._slots if slot.sequence and slot.adapter == turn]
        if busy:
            self._pool.put_aside()
            self._context.use(busy[0][1].adapter)
            self._read(busy)
            self._look(busy)

    def _read(self, busy: Busy) -> None:
        """Decode the next tokens of those whose turn it is, and sample where a prompt has been read or a token is
        due."""
        rows = fill(self._context.batch, busy, self._prompt_limit())
        if self._context.batch.size == 0:
            return
        begun = time.monotonic()
        code = self._context.decode()
        if code == NO_ROOM:
            self._make_room()
            return
        if code != 0:
            raise DecodeFailed(f"llama.cpp cannot decode: code {code}")
        now = time.monotonic()
        prompts = sum(count for sequence, count, _ in rows if not sequence.generates)
        self._pace.add(prompts, self._context.batch.size, now - begun)
        for sequence, count, _ in rows:
            sequence.done += count
        ready = [(sequence, row) for sequence, _, row in rows if sequence.remaining == 0]
        for sequence, row in ready:
            self._advance(sequence, row)
        self._rate.add(len(ready), now)

    def _look(self, busy: Busy) -> None:
        """Decode a piece of the picture that waits longest; llama.cpp takes no pictures and tokens together."""
        looking = [(slot, picture) for slot, one in busy if slot.sequence is one and (picture := one.picture)]
        if not looking:
            return
        slot, picture = min(looking, key=lambda pair: pair[0].used)
        sequence = slot.sequence
        assert sequence is not None
        first = sequence.done - picture.start
        count = min(picture.length - first, self._prompt_limit())
        begun = time.monotonic()
        code = self._context.look(slot.number, picture, first, count, sequence.position(picture.start))
        if code == NO_ROOM:
            self._make_room()
            return
        if code != 0:
            raise DecodeFailed(f"llama.cpp cannot decode a picture: code {code}")
        self._pace.add(count, count, time.monotonic() - begun)
        sequence.done += count

    def _prompt_limit(self) -> int:
        """Most prompt tokens of one decode: one that is alone has nobody to hold up."""
        if len(self._running()) == 1:
            return self._settings.batch
        return self._pace.limit(self._settings.prompt_chunk, self._settings.prompt_pause_ms / 1000)

    def _sweep(self) -> None:
        """Take the sequences of requests that are over out of their slots."""
        for slot in self._slots:
            if slot.sequence and slot.sequence.stream.over:
                slot.sequence.release()
                self._vacate(slot)

    def _free_retired(self) -> None:
        """Free the adapters that are no longer wanted and on which nothing runs or waits."""
        with self._work:
            wanted = {sequence.adapter for sequence in [*self._running(), *self._queue]}
            unused = [adapter for adapter in self._retired if adapter not in wanted]
            self._retired = [adapter for adapter in self._retired if adapter in wanted]
        for adapter in unused:
            self._context.use(None)  # What is freed must not be set.
            self._pool.forget(slot for slot in self._slots if slot.adapter == adapter.number)
            self._turns.forget(adapter.number)
            adapter.free()

    def _admit(self) -> None:
        """Give idle slots to waiting sequences, in order; one that waits for another's prompt lets others by."""
        shares, across = self._model.shares_prefixes, self._settings.cache_prompts
        with self._work:
            for sequence in list(self._queue):
                if self._holds or all(slot.sequence for slot in self._slots):
                    return
                if shares and should_wait(sequence, self._running(), across_requests=across):
                    continue
                self._place(sequence)
                self._queue.remove(sequence)

    def _place(self, sequence: Sequence) -> None:
        """Put ``sequence`` into an idle slot, with what is cached of its prompt."""
        found = place(
            sequence,
            self._slots,
            shares=self._model.shares_prefixes,
            across_requests=self._settings.cache_prompts,
        )
        assert found is not None
        sequence.done = self._pool.begin(sequence, found)
        target = found.target
        target.sequence, target.used, target.adapter = sequence, self._step_number, sequence.adapter_number
        if not sequence.generated:
            sequence.cached = sequence.done

    def _advance(self, sequence: Sequence, row: int) -> None:
        """Sample the next token of ``sequence``, and end it if that was its last."""
        sampling = sequence.stream.plan.sampling
        try:
            token = sequence.sampler(self._model).sample(self._context, row)
        except NoTokenFits:
            self._fail(sequence.stream, InternalError("The model has no token that the required form allows."))
            return
        logprob = None
        sequence.generated += 1
        end: FinishReason | None = None
        if self._model.ends(token):
            end, piece = "stop", b""
        else:
            piece = self._model.piece(token)
            sequence.tokens.append(token)
            if sampling.top_logprobs is not None:
                logprob = logprobs.describe(self._model, token, self._context.logits(row), sampling.top_logprobs)
            if sequence.generated == sampling.max_tokens or len(sequence.tokens) >= self._settings.context:
                end = "length"
        delta = sequence.output.feed(piece, logprob, end=end)
        if delta:
            self._outbox.add(sequence.stream, delta)
        if sequence.output.finished:
            self._finish(sequence)

    def _finish(self, sequence: Sequence) -> None:
        stream = sequence.stream
        sequence.release()
        self._vacate(next(slot for slot in self._slots if slot.sequence is sequence))
        if all(choice.output.finished for choice in stream.choices):
            stream.over = True
            self._outbox.add(stream, stream.usage())

    def _vacate(self, slot: Slot) -> None:
        """Make a slot idle; what it has in the cache stays for prompts that begin alike."""
        self._pool.vacate(slot)
        slot.used = self._step_number
        self._holds = False
        if not (self._settings.cache_prompts and self._model.shares_prefixes):
            self._pool.forget([slot])

    def _make_room(self) -> None:
        """The cache had no room, and nothing was decoded: drop what idle slots hold; when there is nothing left to
        drop, the youngest sequence waits until another ends."""
        if self._pool.forget_idle():
            return
        busy = [slot for slot in self._slots if slot.sequence]
        youngest = max(busy, key=lambda slot: slot.used)
        sequence = youngest.sequence
        assert sequence is not None
        if len(busy) == 1:
            self._fail(sequence.stream, InternalError("The model's cache has no room for this request."))
            return
        logger.warning("the cache is full; a sequence waits", extra={"model": self._name})
        self._vacate(youngest)
        self._pool.forget([youngest])
        self._holds = True
        sequence.done = 0
        with self._work:
            if not sequence.stream.over:
                self._queue.appendleft(sequence)

    def _recover(self, failure: Exception) -> None:
        """End every request that runs, since what the cache holds of it is not known, and go on with the others."""
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            self.broken = failure
        for stream in {sequence.stream for sequence in self._running()}:
            self._fail(stream, InternalError("The model failed while it worked on this request."))
        self._sweep()
        self._pool.clear()

    def _fail(self, stream: Stream, error: GroupQwenError) -> None:
        """End a request with an error; its slots are free at the next step."""
        with self._work:
            stream.over = True
            self._leave_queue(stream)
        self._outbox.fail(stream, error)

    def _leave_queue(self, stream: Stream) -> None:
        for choice in stream.choices:
            if choice in self._queue:
                self._queue.remove(choice)
                choice.release()

    def _running(self) -> list[Sequence]:
        return [sequence for slot in self._slots if (sequence := slot.sequence)]

    def _deliver(self) -> None:
        """Hand everything that became ready to the event loop."""
        if not self._outbox.deliver(self._loop):  # nobody is left to answer to
            self._closing = True


def _is_free(slot: Slot) -> bool:
    """Whether a slot is idle, or will be at the next step."""
    sequence = slot.sequence
    return sequence is None or sequence.stream.over
