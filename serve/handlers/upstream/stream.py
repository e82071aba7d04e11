"""From the bytes of an answer to events."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

import numpy as np
from pydantic import ValidationError

from serve.errors import GroupQwenError
from serve.handlers.base import EventStream
from serve.handlers.upstream.client import Answer
from serve.handlers.upstream.wire import Chunk, EmbeddingAnswer, EmbeddingData, Events, usage_of
from serve.protocol.events import Embeddings, Event, Usage
from serve.protocol.sse import FrameReader

#: Largest event of a stream.
EVENT_BYTES = 4 * 1024 * 1024

_DONE = b"[DONE]"


async def events_of(answer: Answer, choices: int) -> EventStream:
    """The events of a chat's or a completion's answer: deltas, and token counts at the end.

    Raises:
        UpstreamFailed, UpstreamTimeout: the answer breaks off, is an error, or cannot be read; what came before has
            been yielded.
    """
    events = Events(choices)
    if answer.is_stream:
        async with aclosing(_streamed(answer, events)) as batches:
            async for ready in batches:
                yield ready
        last = []
    else:
        last = _read(answer, events, await answer.whole())
    if events.empty:
        raise answer.broken("sent no answer")
    await answer.finish()
    yield [*last, *events.end()]


async def _streamed(answer: Answer, events: Events) -> AsyncGenerator[list[Event], None]:
    reader = FrameReader()
    async with aclosing(_ended(answer.chunks())) as chunks:
        async for chunk in chunks:
            ready, fault, done = _taken(answer, events, reader.feed(chunk))
            if ready:
                yield ready
            if fault is not None:
                raise fault
            if done:
                return
            if reader.pending > EVENT_BYTES:
                raise answer.broken(f"sent an event of more than {EVENT_BYTES} bytes")
    # Some servers send no end mark.
    if not events.complete:
        raise answer.broken("broke its answer off")


async def _ended(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The chunks, and then the empty line that the last event may lack."""
    async with aclosing(chunks):
        async for chunk in chunks:
            yield chunk
    yield b"\n\n"


def _taken(
    answer: Answer, events: Events, frames: Iterable[bytes]
) -> tuple[list[Event], GroupQwenError | None, bool]:
    """The events of some frames, the fault that ended them, and whether the end mark was among them."""
    ready: list[Event] = []
    for data in frames:
        if data.strip() == _DONE:
            return ready, None, True
        try:
            ready += _read(answer, events, data)
        except GroupQwenError as fault:
            return ready, fault, False
    return ready, None, False


def _read(answer: Answer, events: Events, data: bytes) -> list[Event]:
    """The events of one chunk, or of a whole answer."""
    try:
        chunk = Chunk.model_validate_json(data)
        if chunk.error is not None:
            raise answer.error(chunk.error)
        return events.add(chunk)
    except ValueError as error:
        raise answer.broken("sent an answer that is not in OpenAI's form", error) from error


def vectors_of(answer: Answer, body: bytes, count: int, dimensions: int | None) -> Embeddings:
    """The vectors of an ``/embeddings`` answer, in the order of their inputs, brought to length 1.

    Args:
        count: inputs that were sent.
        dimensions: what each vector must have; none means any one number.

    Raises:
        UpstreamFailed: they are fewer, more, of other dimensions, no numbers, or cannot be read.
    """
    try:
        found = EmbeddingAnswer.model_validate_json(body)
    except ValidationError as error:
        raise answer.broken("sent an answer that is not in OpenAI's form", error) from error
    if found.error is not None:
        raise answer.error(found.error)
    data = found.data or []
    places = [place if one.index is None else one.index for place, one in enumerate(data)]
    if sorted(places) != list(range(count)):
        raise answer.broken(f"sent {len(data)} vectors for {count} inputs, or the same one twice")
    try:
        rows = [_vector(one) for _, one in sorted(zip(places, data, strict=True), key=lambda pair: pair[0])]
    except ValueError as error:
        raise answer.broken("sent a vector that cannot be read") from error
    sizes = {len(row) for row in rows}
    wanted = sizes if dimensions is None else {dimensions}
    if len(sizes) != 1 or sizes != wanted or 0 in sizes:
        raise answer.broken(
            f"sent vectors of {sorted(sizes)} numbers" + ("" if dimensions is None else f", not of {dimensions}")
        )
    matrix = np.stack(rows)
    if not np.isfinite(matrix).all():
        raise answer.broken("sent a vector that holds no finite numbers")
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    usage = Usage(0, 0) if found.usage is None else usage_of(found.usage)
    return Embeddings((matrix / np.where(lengths == 0, 1, lengths)).tolist(), usage.prompt_tokens)


def _vector(one: EmbeddingData) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if isinstance(one.embedding, str):
        raw = base64.b64decode(one.embedding, validate=True)
        return np.frombuffer(raw, "<f4").astype(np.float64)
    return np.asarray(one.embedding, np.float64)
