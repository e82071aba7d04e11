"""What the gateway reads out of a stream that it passes on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from serve.gateway.relay import KeptStream, relay, usage_in
from serve.gateway.transport.base import Answer, RawHeaders
from serve.protocol.chat import ChatCollector, ChatEncoder, usage_body
from serve.protocol.events import Delta, Usage
from serve.protocol.sse import DONE
from serve.replica.answers import USAGE_COMMENT
from tests.unit.protocol import events
from tests.unit.protocol.events import frames

Json = dict[str, Any]


class Parts(Answer):
    """An answer in these parts.

    Args:
        knows_end: whether the last part and the end of the body come together.
    """

    def __init__(self, *parts: bytes, headers: RawHeaders | None = None, knows_end: bool = False) -> None:
        self.status = 200
        self.headers = headers or [(b"content-type", b"text/event-stream")]
        self._parts = list(parts)
        self._knows_end = knows_end

    @property
    def ended(self) -> bool:
        return self._knows_end and not self._parts

    async def chunks(self) -> Any:
        while self._parts:
            yield self._parts.pop(0)

    def close(self) -> None:
        """Nothing to give back."""


async def relayed(answer: Answer, *, kept: list[Json] | None = None) -> tuple[list[Message], list[tuple[int, int]]]:
    """The messages for the client, and the counts; what is to be kept is put into ``kept``."""
    sent: list[Message] = []
    counts: list[tuple[int, int]] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def keep(whole: Json) -> None:
        assert kept is not None
        kept.append(whole)

    def count(prompt: int, completion: int) -> None:
        counts.append((prompt, completion))

    await relay(send, answer, [(b"x-added", b"1")], count, keep if kept is not None else None)
    return sent, counts


def stream(answer: events.Answer, usage: Usage) -> bytes:
    """An answer as a replica writes it."""
    encoder = ChatEncoder("m", 1, include_usage=False)
    written = b"".join(encoder.frames(group) for group in answer)
    return written + USAGE_COMMENT + b"%d %d %d\n\n" % (usage.prompt_tokens, usage.completion_tokens, 0) + DONE


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces of these lengths, and the rest."""
    found = []
    for place in places:
        found.append(data[:place])
        data = data[place:]
    return [part for part in (*found, data) if part]


@given(events.answers(), st.lists(st.integers(1, 300), max_size=12))
async def test_a_stream_passes_unchanged_and_is_counted_and_kept_wherever_it_is_cut(
    answer: events.Answer, places: list[int]
) -> None:
    written = stream(answer, Usage(12, 34))
    kept: list[Json] = []
    sent, counts = await relayed(Parts(*cut(written, places)), kept=kept)
    assert b"".join(message["body"] for message in sent[1:]) == written
    assert counts == [(12, 34)]
    collector = ChatCollector("m")
    for group in answer:
        collector.add(group)
    (whole,) = kept
    assert whole["choices"] == collector.body()["choices"]
    assert whole["usage"] == usage_body(Usage(12, 34))
    assert whole["id"] == frames(written)[0]["id"]


async def test_a_stream_that_comes_byte_by_byte_is_counted() -> None:
    written = stream([[Delta(text="Hi")], [Delta(finish_reason="stop")]], Usage(12, 34))
    _, counts = await relayed(Parts(*(bytes([byte]) for byte in written)))
    assert counts == [(12, 34)]


async def test_only_the_headers_that_a_client_needs_are_passed_on() -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"retry-after", b"3"),
        (b"x-groupqwen-model", b"m"),
        (b"server", b"uvicorn"),
        (b"x-groupqwen-internal", b"secret"),
        (b"set-cookie", b"a=b"),
        (b"content-length", b"999"),
    ]
    sent, _ = await relayed(Parts(b'{"a": 1}', headers=headers))
    assert sent[0]["headers"] == [*headers[:3], (b"content-length", b"8"), (b"x-added", b"1")]
    assert sent[1]["body"] == b'{"a": 1}'


async def test_a_stream_that_ends_without_its_end_mark_is_neither_counted_nor_kept() -> None:
    kept: list[Json] = []
    sent, counts = await relayed(Parts(b'data: {"error": {}}\n\n'), kept=kept)
    assert (counts, kept) == ([], [])
    assert b"".join(message["body"] for message in sent[1:]) == b'data: {"error": {}}\n\n'
    assert [message.get("more_body", False) for message in sent[1:]] == [True, False]


async def test_an_end_that_came_with_the_last_piece_goes_out_with_it() -> None:
    written = stream([[Delta(text="Hi")], [Delta(finish_reason="stop")]], Usage(12, 34))
    sent, counts = await relayed(Parts(written[:20], written[20:], knows_end=True))
    assert [(message["body"], message["more_body"]) for message in sent[1:]] == [
        (written[:20], True),
        (written[20:], False),
    ]
    assert counts == [(12, 34)]


async def test_an_answer_of_nothing_is_sent_as_it_is() -> None:
    sent, _ = await relayed(Parts())
    assert sent[-1] == {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        (b": usage 3 5 2\n\ndata: [DONE]\n\n", Usage(3, 5, 2)),
        (b'{"content":": usage 9 9 9"}\n\n: usage 3 5 0\n\ndata: [DONE]\n\n', Usage(3, 5, 0)),
        (b"data: [DONE]\n\n", Usage(0, 0)),
        (b": usage three five two\n\ndata: [DONE]\n\n", Usage(0, 0)),
        (b": usage 3\n\ndata: [DONE]\n\n", Usage(0, 0)),
        (b": usage \n\n", Usage(0, 0)),
        (b"", Usage(0, 0)),
    ],
)
def test_counts_are_read_from_the_comment_of_a_replica(tail: bytes, usage: Usage) -> None:
    assert usage_in(tail) == usage


def test_a_stream_of_nothing_adds_up_to_no_choice() -> None:
    stream = KeptStream()
    stream.feed(b'data: {"id": "a", "created": 5, "model": "m", "choices": []}\n\n')
    assert stream.whole(Usage(1, 0))["choices"] == []
