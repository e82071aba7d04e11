"""What the handler makes of another server's answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve.errors import GroupQwenError, UpstreamFailed, UpstreamTimeout
from serve.handlers.upstream.stream import EVENT_BYTES
from serve.protocol.events import Delta, TokenLogprob, ToolCallDelta, TopLogprob, Usage
from serve.protocol.requests import CompletionRequest, EmbeddingRequest
from tests.unit.gateway.group import settled
from tests.unit.handlers.upstream_server import (
    DONE,
    HELLO,
    HELLO_EVENTS,
    USAGE,
    Answer,
    broken_off,
    chat,
    chunk,
    data,
    events,
    pair,
    sampling,
    stream,
    text_of,
    whole,
)

MESSAGE = {"role": "assistant", "content": "Hello", "tool_calls": None}
WHOLE = {"choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}], "usage": USAGE}


async def test_a_stream_becomes_deltas_and_token_counts_at_the_end() -> None:
    async with pair() as (_, handler):
        assert await events(handler) == HELLO_EVENTS
        assert handler.load_now().active == 0


@pytest.mark.parametrize(
    "answer",
    [
        stream(*(HELLO[place : place + 1] for place in range(len(HELLO))), DONE),
        stream(HELLO.replace(b"\n", b"\r\n"), DONE.replace(b"\n", b"\r\n")),
        stream(b": a comment\n\n", HELLO, b"event: ping\n\n", DONE),
        stream(HELLO, b"data: [DONE]"),
        stream(HELLO),
        stream(HELLO, DONE, b"data: what comes after the end\n\n"),
    ],
    ids=["cut anywhere", "CRLF", "comments", "no empty line at the end", "no end mark", "more after the end mark"],
)
async def test_frames_are_read_in_every_form_that_servers_send(answer: Answer) -> None:
    async with pair(answer) as (_, handler):
        assert await events(handler) == HELLO_EVENTS


async def test_a_whole_answer_is_read_as_one() -> None:
    async with pair(whole(WHOLE), stream=False) as (server, handler):
        assert await events(handler) == [Delta(text="Hello", finish_reason="stop"), Usage(7, 2, 3)]
        assert "stream" not in server.asked[0].body


async def test_a_server_that_sends_no_stream_though_asked_for_one_is_understood() -> None:
    async with pair(whole(WHOLE)) as (_, handler):
        assert text_of(await events(handler)) == "Hello"


async def test_deltas_come_before_the_answer_has_ended() -> None:
    gate = asyncio.Event()
    async with pair(stream(data(chunk("first")), gate, data(chunk(" last", finish="stop")), DONE)) as (_, handler):
        request = chat()
        answer = handler.chat(request, sampling(request))
        assert await anext(answer) == [Delta(text="first")]
        assert handler.load_now().active == 1
        gate.set()
        assert await anext(answer) == [Delta(text=" last", finish_reason="stop")]
        assert await anext(answer) == [Usage(0, 0)]


async def test_token_counts_that_never_come_are_zero() -> None:
    async with pair(stream(data(chunk("a", finish="length")), DONE)) as (_, handler):
        assert await events(handler) == [Delta(text="a", finish_reason="length"), Usage(0, 0, 0)]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_kept_apart_from_the_answer_under_either_name(name: str) -> None:
    first: dict[str, Any] = {name: "hm"}
    frames = data(chunk(**first), chunk("so", finish="stop"))
    async with pair(stream(frames, DONE)) as (_, handler):
        assert (await events(handler))[:2] == [Delta(reasoning="hm"), Delta(text="so", finish_reason="stop")]


async def test_tool_calls_are_passed_on_in_pieces() -> None:
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    frames = data(
        chunk(tool_calls=[first]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a":1}'}}]),
        chunk(finish="tool_calls"),
    )
    async with pair(stream(frames, DONE)) as (_, handler):
        assert (await events(handler))[:3] == [
            Delta(tool_calls=(ToolCallDelta(0, "call_1", "f", ""),)),
            Delta(tool_calls=(ToolCallDelta(0, arguments='{"a":1}'),)),
            Delta(finish_reason="tool_calls"),
        ]


async def test_tool_calls_without_index_and_id_get_them() -> None:
    calls = [{"function": {"name": name, "arguments": "{}"}} for name in ("f", "g")]
    async with pair(stream(data(chunk(tool_calls=calls, finish="function_call")), DONE)) as (_, handler):
        delta = (await events(handler))[0]
    assert isinstance(delta, Delta)
    assert [(call.index, call.name) for call in delta.tool_calls] == [(0, "f"), (1, "g")]
    assert len({call.id for call in delta.tool_calls}) == 2
    assert delta.finish_reason == "tool_calls"


async def test_logprobs_of_a_chat_are_passed_on() -> None:
    token = {"token": "é", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "é", "logprob": -0.5}]}
    frame = {"choices": [{"index": 0, "delta": {"content": "é"}, "logprobs": {"content": [token]}}]}
    async with pair(stream(data(frame, chunk(finish="stop")), DONE)) as (_, handler):
        raw = "é".encode()
        expected = (TokenLogprob("é", -0.5, raw, (TopLogprob("é", -0.5, raw),)),)
        assert (await events(handler))[0] == Delta(text="é", logprobs=expected)


async def test_a_completion_is_streamed_with_its_own_form_of_logprobs() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}], "text_offset": [0]}
    frames = data({"choices": [{"index": 0, "text": "a", "logprobs": logprobs, "finish_reason": "length"}]})
    request = CompletionRequest(model="m", prompt="x", logprobs=1)
    can = {"completion": True, "logprobs": True}
    async with pair(stream(frames, DONE), capabilities=can) as (server, handler):
        found = [event async for ready in handler.complete(request, sampling(request)) for event in ready]
    expected = (TokenLogprob("a", -1.0, b"a", (TopLogprob("a", -1.0, b"a"),)),)
    assert found == [Delta(text="a", logprobs=expected, finish_reason="length"), Usage(0, 0)]
    assert server.asked[0].path == "/v1/completions"


async def test_each_choice_ends_once_and_those_that_the_server_left_open_are_ended() -> None:
    frames = data(chunk("a", index=1, finish="stop"), chunk("more", index=1, finish="stop"), chunk("b"))
    async with pair(stream(frames, DONE)) as (_, handler):
        assert await events(handler, chat(n=2)) == [
            Delta(1, "a", finish_reason="stop"),
            Delta(0, "b"),
            Delta(0, finish_reason="stop"),
            Usage(0, 0),
        ]


async def test_an_unknown_finish_reason_is_a_stop() -> None:
    async with pair(stream(data(chunk("a", finish="eos_token")), DONE)) as (_, handler):
        assert (await events(handler))[0] == Delta(text="a", finish_reason="stop")


BAD: dict[str, tuple[Answer, str]] = {
    "broken off": (broken_off(data(chunk("a"))), "broke its answer off"),
    "closed without its end": (stream(data(chunk("a"))), "broke its answer off"),
    "garbage": (stream(data(chunk("a")), b"data: {nonsense\n\n"), "not in OpenAI's form"),
    "of another form": (stream(data(chunk("a")), b'data: {"choices": 5}\n\n'), "not in OpenAI's form"),
    "a choice that nobody asked for": (stream(data(chunk("a"), chunk("b", index=1))), "not in OpenAI's form"),
    "a tool call far out": (
        stream(data(chunk("a"), chunk(tool_calls=[{"index": 10**9, "function": {"name": "f"}}]))),
        "not in OpenAI's form",
    ),
    "not a number": (
        stream(data(chunk("a")), b'data: {"usage": {"prompt_tokens": NaN}}\n\n'),
        "not in OpenAI's form",
    ),
    "an error object": (
        stream(data(chunk("a"), {"error": {"message": "Overloaded\nnow", "code": 500}})),
        "error: Overloaded now",
    ),
    "a huge event": (
        stream(data(chunk("a")), b"data: ", *[b"x" * (1 << 20)] * (EVENT_BYTES >> 20), b"x"),
        "an event of",
    ),
}


@pytest.mark.parametrize(("answer", "told"), BAD.values(), ids=BAD)
async def test_an_answer_that_goes_wrong_in_the_middle_ends_with_an_error_after_what_was_there(
    answer: Answer, told: str
) -> None:
    async with pair(answer) as (server, handler):
        request = chat()
        stream_ = handler.chat(request, sampling(request))
        assert await anext(stream_) == [Delta(text="a")]
        with pytest.raises(UpstreamFailed, match=told):
            await anext(stream_)
        assert len(server.asked) == 1
        assert handler.load_now().active == 0


NOT_AN_ANSWER: dict[str, tuple[Answer, str]] = {
    "a web page": (whole(b"<html>", kind=b"text/html"), "answered with text/html"),
    "compressed": (whole(b"\x1f\x8b", content_encoding="gzip"), "answered with gzip"),
    "no JSON": (whole(b"nonsense"), "not in OpenAI's form"),
    "no choices": (whole({"choices": []}), "sent no answer"),
    "an end and nothing else": (stream(DONE), "sent no answer"),
    "an error with a huge number": (
        whole(b'{"error": {"message": "No.", "code": 99999999999999999999999}}'),
        "error: No.",
    ),
    "an error with status 200": (whole({"error": {"message": "No."}}), "error: No."),
    "a redirect": (whole({}, status=302, location="http://127.0.0.1:1/"), "redirects are not followed"),
    "another status": (whole({"error": "Pay first."}, status=402), "answered 402: Pay first."),
    "a page with another status": (whole(b"<h1>secret</h1>", status=402, kind=b"text/html"), r"answered 402\."),
}


@pytest.mark.parametrize(("answer", "told"), NOT_AN_ANSWER.values(), ids=NOT_AN_ANSWER)
async def test_what_is_no_answer_is_an_error(answer: Answer, told: str) -> None:
    async with pair(answer) as (server, handler):
        with pytest.raises(UpstreamFailed, match=told) as raised:
            await events(handler)
        assert raised.value.status == 502
        assert len(server.asked) == 1


async def test_an_answer_of_more_bytes_than_allowed_is_cut_off() -> None:
    endless = stream(*[data(chunk("x" * 1000))] * 100, asyncio.Event())
    async with pair(endless, max_answer_bytes=10_000) as (server, handler):
        with pytest.raises(UpstreamFailed, match="more than 10000 bytes"):
            await events(handler)
        await settled(lambda: server.left)


async def test_an_answer_that_stops_in_the_middle_is_given_up() -> None:
    answer = stream(data(chunk("a")), asyncio.Event())
    async with pair(answer, timeouts={"between_bytes": 0.05}) as (server, handler):
        with pytest.raises(UpstreamTimeout, match="in the middle of its answer"):
            await events(handler)
        await settled(lambda: server.left)


async def test_an_answer_that_takes_too_long_as_a_whole_is_given_up() -> None:
    async def drip(send: Any) -> None:
        await stream(*[data(chunk("a"))] * 3, asyncio.Event())(send)

    async with pair(drip, timeouts={"total": 0.1}) as (_, handler):
        with pytest.raises(UpstreamTimeout):
            await events(handler)


async def test_a_client_that_leaves_cuts_the_connection_at_once() -> None:
    async with pair(stream(data(chunk("a")), asyncio.Event())) as (server, handler):
        request = chat()
        answer = handler.chat(request, sampling(request))
        await anext(answer)
        await answer.aclose()
        await settled(lambda: server.left)
        assert handler.load_now().active == 0


async def test_a_request_that_is_cancelled_before_its_first_byte_cuts_the_connection_too() -> None:
    async with pair(stream(asyncio.Event())) as (server, handler):
        task = asyncio.create_task(events(handler))
        await settled(lambda: server.asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled(lambda: server.left)
        assert handler.load_now().active == 0


async def test_running_requests_end_with_an_error_when_the_model_is_unloaded() -> None:
    async with pair(stream(data(chunk("a")), asyncio.Event())) as (_, handler):
        request = chat()
        answer = handler.chat(request, sampling(request))
        await anext(answer)
        await handler.unload()
        with pytest.raises(GroupQwenError):
            await anext(answer)
        with pytest.raises(GroupQwenError, match="not loaded"):
            await events(handler)
        await handler.unload()


EMBEDS = {"chat": False, "embeddings": True, "dimensions": 2}


def vectors(*found: tuple[int | None, Any]) -> Answer:
    """An answer with these embeddings."""
    return whole(
        {"data": [{"index": index, "embedding": one} for index, one in found], "usage": {"prompt_tokens": 5}}
    )


async def test_embeddings_come_in_the_order_of_their_inputs_and_with_length_one() -> None:
    async with pair(vectors((1, [0, 2]), (0, [3, 4])), capabilities=EMBEDS) as (server, handler):
        found = await handler.embed(EmbeddingRequest(model="m", input=["a", "b"]))
    assert found.vectors == [[0.6, 0.8], [0.0, 1.0]]
    assert found.prompt_tokens == 5
    assert server.asked[0].path == "/v1/embeddings"
    assert server.asked[0].body == {"model": "theirs", "input": ["a", "b"], "encoding_format": "float"}


async def test_embeddings_in_base64_are_read_as_well() -> None:
    async with pair(vectors((None, "AABAQAAAgEA=")), capabilities=EMBEDS) as (_, handler):
        found = await handler.embed(EmbeddingRequest(model="m", input="a"))
    assert found.vectors == [[0.6, 0.8]]


async def test_many_inputs_are_sent_in_calls_of_the_servers_size() -> None:
    answers = (vectors((0, [1, 0]), (1, [0, 1])), vectors((0, [1, 0])))
    async with pair(*answers, capabilities=EMBEDS, inputs_per_call=2) as (server, handler):
        found = await handler.embed(EmbeddingRequest(model="m", input=["a", "b", "c"]))
    assert [asked.body["input"] for asked in server.asked] == [["a", "b"], ["c"]]
    assert (len(found.vectors), found.prompt_tokens) == (3, 10)


async def test_other_dimensions_are_asked_for_and_held_to() -> None:
    async with pair(vectors((0, [1, 0, 0])), capabilities=EMBEDS) as (server, handler):
        found = await handler.embed(EmbeddingRequest(model="m", input="a", dimensions=3))
        assert len(found.vectors[0]) == 3
        assert server.asked[0].body["dimensions"] == 3
        with pytest.raises(UpstreamFailed, match=r"vectors of \[3\] numbers, not of 4"):
            await handler.embed(EmbeddingRequest(model="m", input="a", dimensions=4))


@pytest.mark.parametrize(
    "answer",
    [
        vectors(),
        vectors((0, [1, 0])),
        vectors((0, [1, 0]), (0, [1, 0])),
        vectors((0, [1, 0]), (2, [1, 0])),
        vectors((0, [1, 0]), (1, [1])),
        vectors((0, [1, 0]), (1, [])),
        vectors((0, [1, 0]), (1, "no base64!")),
        vectors((0, [1, 0]), (1, "AAAA")),
        vectors((0, [1, 0]), (1, "AADAfwAAwH8=")),
        whole({"error": {"message": "No."}}),
        whole(b"nonsense"),
    ],
    ids=[
        "none",
        "one less",
        "one twice",
        "one missing",
        "shorter",
        "empty",
        "no base64",
        "half a number",
        "NaN",
        "error",
        "no JSON",
    ],
)
async def test_embeddings_that_are_not_those_asked_for_are_an_error(answer: Answer) -> None:
    async with pair(answer, capabilities=EMBEDS) as (_, handler):
        with pytest.raises(UpstreamFailed):
            await handler.embed(EmbeddingRequest(model="m", input=["a", "b"]))
