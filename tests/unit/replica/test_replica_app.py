"""The HTTP face of one model replica."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Scope

from serve.errors import ContextLengthExceeded, QueueFull
from serve.handlers.base import Handler
from serve.protocol.chat import JoinedChoices
from serve.protocol.events import Delta, Usage
from serve.protocol.requests import ChatRequest
from serve.protocol.sampling import SamplingDefaults
from serve.replica.answers import USAGE_COMMENT
from serve.settings.model import ModelUserConfig
from tests.unit.protocol.events import Answer, answers, ends_well, frames
from tests.unit.replica.models import CHAT, HELLO, SIGNED, Scripted, client, echo, replica

END: Answer = [[Delta(text="Hi")], [Delta(finish_reason="stop"), Usage(3, 2, 1)]]


async def post(handler: Handler, fields: dict[str, Any] | None = None, path: str = CHAT) -> httpx.Response:
    """Ask a replica."""
    async with client(replica(handler).asgi) as asking:
        return await asking.post(path, json=HELLO | (fields or {}))


@pytest.mark.parametrize("headers", [{}, {"x-groupqwen-internal": "wrong"}, {"x-groupqwen-internal": ""}])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", CHAT), ("GET", "/info"), ("POST", "/v1/embeddings"), ("GET", "/nothing")]
)
async def test_nothing_is_answered_without_the_internal_token(
    headers: dict[str, str], method: str, path: str
) -> None:
    app = httpx.ASGITransport(replica(echo()).asgi)
    async with httpx.AsyncClient(transport=app, base_url="http://localhost", headers=headers) as asking:
        answer = await asking.request(method, path, json=HELLO)
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")


async def test_every_answer_carries_the_models_name_errors_too() -> None:
    async with client(replica(echo("tiny")).asgi) as asking:
        found = [await asking.get("/info"), await asking.get("/nothing"), await asking.post(CHAT, content=b"{")]
        found.append(await asking.get("/info", headers={**SIGNED, "x-groupqwen-internal": "wrong"}))
    assert [answer.status_code for answer in found] == [200, 404, 400, 403]
    assert [answer.headers["x-groupqwen-model"] for answer in found] == ["tiny"] * 4


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", CHAT, 405), ("POST", "/info", 405), ("GET", "/v2", 404)]
)
async def test_an_unknown_address_and_a_wrong_method_are_openai_errors(method: str, path: str, status: int) -> None:
    async with client(replica(echo()).asgi) as asking:
        answer = await asking.request(method, path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")


async def test_a_replica_says_what_it_is_and_can_do() -> None:
    async with client(replica(echo("tiny", slots=7)).asgi) as asking:
        info = (await asking.get("/info")).json()
    assert (info["id"], info["handler"], info["owned_by"], info["created"]) == ("tiny", "echo", "groupqwen", 0)
    assert info["capabilities"]["chat"] is True and info["capabilities"]["embeddings"] is False
    assert (info["load"]["slots"], info["load"]["active"]) == (7, 0)


async def test_a_chat_is_answered_whole() -> None:
    answer = await post(Scripted(*END))
    body = answer.json()
    assert body["object"] == "chat.completion" and body["model"] == "m"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hi"}
    assert body["usage"]["total_tokens"] == 5


async def test_a_chat_is_streamed_with_the_head_that_proxies_need() -> None:
    answer = await post(Scripted(*END), {"stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert ends_well(answer.content)
    assert [chunk["choices"][0]["delta"] for chunk in frames(answer.content)] == [
        {"role": "assistant", "content": ""},
        {"content": "Hi"},
        {},
    ]


@given(st.integers(1, 3).flatmap(lambda n: st.tuples(st.just(n), answers(choices=n))))
async def test_a_stream_adds_up_to_the_answer_without_one(case: tuple[int, Answer]) -> None:
    choices, answer = case
    whole = (await post(Scripted(*answer), {"n": choices})).json()
    streamed = await post(
        Scripted(*answer), {"n": choices, "stream": True, "stream_options": {"include_usage": True}}
    )
    *chunks, last = frames(streamed.content)
    joined = JoinedChoices()
    for chunk in chunks:
        joined.add(chunk["choices"])
    assert joined.finished() == whole["choices"]
    assert (last["choices"], last["usage"]) == ([], whole["usage"])


@pytest.mark.parametrize("include", [True, False])
async def test_a_stream_ends_with_a_comment_of_its_counts_whether_or_not_the_client_asked(include: bool) -> None:
    answer = await post(Scripted(*END), {"stream": True, "stream_options": {"include_usage": include}})
    assert answer.content.endswith(USAGE_COMMENT + b"3 2 1\n\ndata: [DONE]\n\n")
    assert ("usage" in frames(answer.content)[-1]) == include


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(QueueFull("m"), 429, "queue_full"), (ContextLengthExceeded(9, 8), 400, "context_length_exceeded")],
)
async def test_an_error_before_the_first_token_keeps_its_status(
    stream: bool, error: Exception, status: int, code: str
) -> None:
    answer = await post(Scripted(error), {"stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_stream_that_fails_ends_with_an_error_and_no_end_mark() -> None:
    answer = await post(Scripted([Delta(text="Hi")], QueueFull("m")), {"stream": True})
    assert answer.status_code == 200
    *chunks, last = frames(answer.content)
    assert chunks[-1]["choices"][0]["delta"] == {"content": "Hi"}
    assert last["error"]["code"] == "queue_full"
    assert b"[DONE]" not in answer.content


async def test_a_fault_of_the_program_in_a_stream_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    answer = await post(Scripted([Delta(text="Hi")], ValueError("inner details")), {"stream": True})
    assert frames(answer.content)[-1]["error"]["code"] == "internal_error"
    assert b"inner details" not in answer.content
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "a stream failed after it had begun"
    ]


async def test_an_answer_without_a_stream_that_fails_half_way_is_only_an_error() -> None:
    answer = await post(Scripted([Delta(text="Hi")], QueueFull("m")))
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_handler_is_done_when_its_answer_is(stream: bool) -> None:
    handler = Scripted(*END)
    await post(handler, {"stream": stream})
    assert handler.active == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_handler_is_done_when_its_answer_can_no_longer_be_sent(stream: bool) -> None:
    handler = Scripted([Delta(text="Hi")], asyncio.Event())
    handler.steps = handler.steps if stream else tuple(END)

    async def receive() -> Message:
        return {"type": "http.request", "body": orjson.dumps(HELLO | {"stream": stream})}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the connection is gone")

    headers = [(name.encode(), value.encode()) for name, value in SIGNED.items()]
    scope: Scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers}
    with pytest.raises(OSError, match="gone"):
        await replica(handler).asgi(scope, receive, send)
    assert handler.active == 0


async def test_a_text_completion_is_streamed_and_whole() -> None:
    prompt = {"prompt": "Once"}
    fields = {name: value for name, value in HELLO.items() if name != "messages"} | prompt
    async with client(replica(Scripted(*END)).asgi) as asking:
        whole = (await asking.post("/v1/completions", json=fields)).json()
        streamed = await asking.post("/v1/completions", json=fields | {"stream": True})
    assert (whole["object"], whole["choices"][0]["text"]) == ("text_completion", "Hi")
    assert [chunk["choices"][0]["text"] for chunk in frames(streamed.content)] == ["Hi", ""]
    assert ends_well(streamed.content)


async def test_texts_are_embedded() -> None:
    async with client(replica(Scripted()).asgi) as asking:
        body = (await asking.post("/v1/embeddings", json={"model": "m", "input": ["a", "b"]})).json()
    assert [one["embedding"] for one in body["data"]] == [[0.5, -0.5]] * 2
    assert body["usage"]["total_tokens"] == 2


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
async def test_what_a_model_cannot_do_is_refused_by_name(path: str) -> None:
    fields = {"model": "tiny", "prompt": "a"} if path == "/v1/completions" else {"model": "tiny", "input": "a"}
    async with client(replica(echo("tiny")).asgi) as asking:
        answer = await asking.post(path, json=fields)
    assert answer.status_code == 400
    assert "'tiny'" in answer.json()["error"]["message"] and answer.json()["error"]["param"] == "model"


async def test_a_request_with_a_fault_reaches_no_handler() -> None:
    handler = Scripted(*END)
    answer = await post(handler, {"temperature": 9})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "temperature")
    assert handler.asked == []


async def test_behaviour_that_changes_live_holds_for_the_next_request() -> None:
    handler = Scripted(*END)
    app = replica(handler)
    async with client(app.asgi) as asking:
        await asking.post(CHAT, json=HELLO)
        app.behaviour = ModelUserConfig(sampling=SamplingDefaults(temperature=0.1))
        await asking.post(CHAT, json=HELLO)
        await asking.post(CHAT, json=HELLO | {"temperature": 1.5})
    assert [sampling.temperature for _, sampling in handler.asked] == [0.7, 0.1, 1.5]


async def test_a_handler_is_given_the_models_system_prompt() -> None:
    handler = Scripted(*END)
    app = replica(handler)
    app.behaviour = ModelUserConfig(system_prompt="Be kind.")
    async with client(app.asgi) as asking:
        await asking.post(CHAT, json=HELLO)
    ((request, _),) = handler.asked
    assert isinstance(request, ChatRequest)
    assert [message.role for message in request.messages] == ["system", "user"]


async def test_a_body_beyond_what_a_replica_will_ever_hold_is_refused_unread() -> None:
    async with client(replica(echo()).asgi) as asking:
        answer = await asking.post(CHAT, content=b"", headers={"content-length": str(2**40)})
    assert answer.status_code == 413


async def test_text_of_every_script_arrives_as_it_was_written() -> None:
    text = 'naïve 你好 👩‍👩‍👧 \u2028 \x00 \\ " \n data: [DONE]\n\n'
    handler = Scripted([Delta(text=text)], [Delta(finish_reason="stop"), Usage(1, 1)])
    streamed = await post(handler, {"stream": True})
    assert frames(streamed.content)[1]["choices"][0]["delta"]["content"] == text
    assert orjson.loads((await post(handler)).content)["choices"][0]["message"]["content"] == text
