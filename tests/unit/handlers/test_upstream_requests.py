"""What is sent to the other server, and with which key."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from serve.errors import InvalidRequest, UpstreamFailed
from serve.handlers.base import handler_class
from serve.handlers.upstream.handler import UpstreamHandler
from serve.handlers.upstream.key import Key
from serve.protocol.requests import CompletionRequest, EmbeddingRequest, with_system_prompt
from serve.settings.errors import SettingsError
from serve.settings.upstream import UpstreamEngine
from tests.unit.gateway.group import listening, settled
from tests.unit.handlers.upstream_server import (
    DONE,
    HELLO,
    HELLO_EVENTS,
    OtherServer,
    chat,
    events,
    loaded,
    pair,
    sampling,
    settings,
    stream,
)

EVERYTHING = {"tools": True, "structured_output": True, "vision": True, "reasoning": True, "logprobs": True}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


async def sent(request: Any, defaults: dict[str, Any] | None = None, **engine: Any) -> dict[str, Any]:
    """The body that a chat is sent with."""
    async with pair(**engine) as (server, handler):
        async for _ in handler.chat(request, sampling(request, **(defaults or {}))):
            pass
    assert server.asked[0].path == "/v1/chat/completions"
    return server.asked[0].body


def test_the_handler_is_found_by_its_name() -> None:
    assert handler_class("upstream") is UpstreamHandler


async def test_a_plain_chat_is_sent_under_the_other_name_with_the_sampling_defaults() -> None:
    assert await sent(chat(), {"temperature": 0.5, "max_tokens": 9}) == {
        "model": "theirs",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "top_p": 0.95,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_what_the_client_has_set_is_sent_as_it_has_set_it() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "What is 日本?"}, PICTURE]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "5", "tool_call_id": "c"},
    ]
    parameters = {"type": "object", "properties": {"a": {"type": "string", "default": None}}}
    fields = {
        "messages": messages,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "reasoning_effort": "low",
        "logprobs": True,
        "top_logprobs": 2,
        "n": 2,
        "seed": 5,
        "stop": ["a", "b"],
        "logit_bias": {"5": -1.5},
        "temperature": 0.0,
        "user": "someone",
    }
    body = await sent(chat(**fields), capabilities=EVERYTHING)
    assert {name: body[name] for name in fields} == fields


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_the_token_limit_has_the_name_that_the_server_knows(name: str) -> None:
    for asked in ("max_tokens", "max_completion_tokens"):
        body = await sent(chat(**{asked: 3}), max_tokens_field=name)
        assert {key: body[key] for key in body if key.startswith("max_")} == {name: 3}


async def test_what_belongs_to_this_group_stays_here() -> None:
    body = await sent(chat(store=True, metadata={"a": "b"}, stream=True, stream_options={"include_usage": False}))
    assert body.keys().isdisjoint({"store", "metadata"})
    assert body["stream_options"] == {"include_usage": True}


async def test_a_type_that_a_client_has_left_out_is_added() -> None:
    tools = [{"function": {"name": "f"}}]
    body = await sent(chat(tools=tools, tool_choice={"function": {"name": "f"}}), capabilities=EVERYTHING)
    assert body["tools"][0]["type"] == body["tool_choice"]["type"] == "function"


async def test_what_is_about_tools_is_left_out_where_there_are_none() -> None:
    body = await sent(chat(tools=[], tool_choice="auto", parallel_tool_calls=True))
    assert body.keys().isdisjoint({"tools", "tool_choice", "parallel_tool_calls"})


async def test_a_system_prompt_of_the_config_is_sent_as_well() -> None:
    body = await sent(with_system_prompt(chat(), "Be brief."))
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_parameters_that_the_server_takes_are_sent_and_others_left_out() -> None:
    body = await sent(chat(), {"top_k": 20, "temperature": 0.1}, parameters=["top_k"])
    assert body["top_k"] == 20
    assert body.keys().isdisjoint({"temperature", "top_p", "min_p", "repetition_penalty"})


async def test_fields_of_the_config_are_added_to_each_body() -> None:
    options = {"source_lang": "auto", "target_lang": "English"}
    body = await sent(chat(), body={"translation_options": options})
    assert body["translation_options"] == options


async def test_streams_are_asked_for_as_the_settings_say() -> None:
    assert "stream_options" not in await sent(chat(), stream_usage=False)


NOT_TAKEN = {
    "top_k": {"top_k": 3},
    "tools": {"tools": [{"function": {"name": "f"}}]},
    "messages": {"messages": [{"role": "user", "content": [PICTURE]}]},
    "response_format": {"response_format": {"type": "json_object"}},
    "logprobs": {"logprobs": True},
}


@pytest.mark.parametrize(("param", "fields"), NOT_TAKEN.items(), ids=NOT_TAKEN)
async def test_what_the_model_is_not_said_to_take_is_refused_without_asking(
    param: str, fields: dict[str, Any]
) -> None:
    async with pair() as (server, handler):
        with pytest.raises(InvalidRequest) as raised:
            await events(handler, chat(**fields))
        assert raised.value.param == param
        assert server.asked == []


async def test_a_reasoning_effort_has_no_effect_on_a_model_that_does_not_reason() -> None:
    assert "reasoning_effort" not in await sent(chat(reasoning_effort="high"))


async def test_a_model_answers_only_the_kinds_of_request_that_it_is_said_to() -> None:
    completion = CompletionRequest(model="m", prompt="x")
    async with pair(capabilities={"chat": False}) as (_, handler):
        assert not handler.capabilities.chat
        with pytest.raises(InvalidRequest, match="cannot chat"):
            handler.chat(chat(), sampling(chat()))
        with pytest.raises(InvalidRequest, match="cannot complete"):
            handler.complete(completion, sampling(completion))
        with pytest.raises(InvalidRequest, match="no embeddings"):
            await handler.embed(EmbeddingRequest(model="m", input="a"))


async def test_a_completion_is_sent_with_its_prompt_and_limit() -> None:
    request = CompletionRequest(model="m", prompt=["Once"], stop="x")
    async with pair(capabilities={"completion": True}, max_tokens_field="max_completion_tokens") as (server, handler):
        async for _ in handler.complete(request, sampling(request)):
            pass
    body = server.asked[0].body
    assert (body["prompt"], body["max_tokens"], body["stop"]) == ("Once", 16, ["x"])


async def test_headers_are_those_of_the_config_and_none_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with pair(headers={"X-Title": "our group"}) as (server, handler):
        assert await events(handler) == HELLO_EVENTS
    headers = server.asked[0].headers
    assert headers["x-title"] == "our group"
    assert headers["accept-encoding"] == "identity"
    assert headers.keys().isdisjoint({"authorization", "cookie"})


async def test_a_proxy_of_the_config_is_used() -> None:
    proxy = OtherServer()
    proxy.then(stream(HELLO, DONE))
    async with listening(proxy) as address, loaded(settings("far.example.org", proxy=f"http://{address}")) as handler:
        assert await events(handler) == HELLO_EVENTS
    assert proxy.asked[0].headers["host"] == "far.example.org"


async def test_the_key_of_the_environment_is_shown_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", " sk-one\n")
    async with pair(key_env="OTHER_KEY") as (server, handler):
        await events(handler)
        assert "sk-one" not in repr(vars(handler)) + repr(vars(handler._client)) + repr(handler.settings)
    assert server.asked[0].headers["authorization"] == "Bearer sk-one"


async def test_a_key_file_is_read_again_when_it_changes_and_kept_when_it_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-one\n")
    async with pair(key_file=str(file)) as (server, handler):
        await events(handler)
        (tmp_path / "new").write_text("sk-second")
        os.replace(tmp_path / "new", file)
        await events(handler)
        file.unlink()
        await events(handler)
        file.write_text("\n")
        await events(handler)
        file.write_text("sk-third-one")
        await events(handler)
    shown = [asked.headers["authorization"].removeprefix("Bearer ") for asked in server.asked]
    assert shown == ["sk-one", "sk-second", "sk-second", "sk-second", "sk-third-one"]


def engine(**fields: Any) -> UpstreamEngine:
    """The settings of a server."""
    return UpstreamEngine.model_validate({"base_url": "http://localhost/v1", "model": "theirs", **fields})


async def test_a_key_that_is_not_there_keeps_the_model_from_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTHER_KEY", raising=False)
    with pytest.raises(SettingsError, match="OTHER_KEY is not set"):
        async with loaded(settings("localhost", key_env="OTHER_KEY")):
            pass
    with pytest.raises(SettingsError, match="none: No such file"):
        Key(engine(key_file=str(tmp_path / "none")))


@pytest.mark.parametrize("content", ["", "\n", "two words", "sk-é", "sk\nother", "x" * 20_000, "a\0b"])
def test_a_file_that_holds_no_key_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(SettingsError, match="key_file") as raised:
        Key(engine(key_file=str(file)))
    assert not content.strip() or content not in str(raised.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, and its key beside it."""
    folder = tmp_path_factory.mktemp("tls")
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", *options.split(), "-addext", "subjectAltName=IP:127.0.0.1", *files]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem"


async def over_tls(certificate: Path, **fields: Any) -> tuple[OtherServer, Exception | None]:
    """A chat with a server that has this certificate: the server, and what went wrong."""
    other = OtherServer()
    other.then(stream(HELLO, DONE))
    key = str(certificate.with_name("key.pem"))
    config = uvicorn.Config(
        other, port=0, lifespan="off", log_config=None, ssl_certfile=str(certificate), ssl_keyfile=key
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await settled(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with loaded(settings("x", base_url=f"https://127.0.0.1:{port}/v1", **fields)) as handler:
            await events(handler)
            return other, None
    except UpstreamFailed as error:
        return other, error
    finally:
        server.should_exit = True
        await serving


async def test_a_certificate_that_nobody_has_signed_is_refused_and_not_tried_again(certificate: Path) -> None:
    other, fault = await over_tls(certificate)
    assert "certificate" in str(fault)
    assert other.asked == []


async def test_a_certificate_of_the_ca_file_is_trusted(certificate: Path) -> None:
    _, fault = await over_tls(certificate, ca_file=str(certificate))
    assert fault is None


async def test_certificates_are_not_checked_where_the_settings_say_so(certificate: Path) -> None:
    _, fault = await over_tls(certificate, tls_verify=False)
    assert fault is None


async def test_a_ca_file_that_cannot_be_read_keeps_the_model_from_loading(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for file in (tmp_path / "none.pem", tmp_path / "ca.pem"):
        with pytest.raises(SettingsError, match="ca_file"):
            async with loaded(settings("localhost", ca_file=str(file))):
                pass
