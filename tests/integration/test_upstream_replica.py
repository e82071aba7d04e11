"""A real model on one replica, and a member on another replica that reaches it over HTTP. Without Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
from starlette.types import ASGIApp

from serve.handlers.llamacpp.handler import LlamaCppHandler
from serve.handlers.upstream.handler import UpstreamHandler
from serve.replica.asgi import TOKEN_HEADER
from serve.settings.model import ModelSettings
from tests.llamacpp import CAPITAL, loaded, until
from tests.unit.gateway.group import listening
from tests.unit.replica.models import CHAT, TOKEN, client, replica

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMPLETION = "/v1/completions"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 16}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def near(smollm2_settings: ModelSettings) -> AsyncIterator[LlamaCppHandler]:
    """The model. It computes every prompt anew, so that it says the same thing twice, to the last bit."""
    async with loaded(smollm2_settings, context=512, slots=4, cache_prompts=False) as handler:
        yield handler


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apps(near: LlamaCppHandler) -> AsyncIterator[tuple[ASGIApp, ASGIApp]]:
    """The app of the model's replica, and that of the member which asks it."""
    app = replica(near).asgi
    async with listening(app) as address:
        engine = {
            "base_url": f"http://{address}/v1",
            "model": "m",
            "headers": {TOKEN_HEADER.decode(): TOKEN},
            "parameters": ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop", "seed"],
            "capabilities": {"completion": True, "structured_output": True, "logprobs": True},
        }
        far = UpstreamHandler(ModelSettings.model_validate({"id": "m", "handler": "upstream", "engine": engine}))
        await far.load()
        yield app, replica(far).asgi
        await far.unload()


async def answer(app: ASGIApp, path: str, **body: Any) -> dict[str, Any]:
    """A whole answer, without what differs between two of them."""
    async with client(app) as http:
        found = await http.post(path, json={"model": "m", **GREEDY, **body}, timeout=60)
    assert found.status_code == 200, found.text
    whole: dict[str, Any] = found.json()
    del whole["id"], whole["created"], whole["model"], whole["usage"]["prompt_tokens_details"]
    return whole


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a chat": (CHAT, {"messages": CAPITAL}),
    "choices": (CHAT, {"messages": CAPITAL, "n": 2, "temperature": 0.9, "seed": 5}),
    "logprobs": (CHAT, {"messages": CAPITAL, "logprobs": True, "top_logprobs": 2}),
    "a stop": (CHAT, {"messages": CAPITAL, "stop": ["France"]}),
    "JSON": (CHAT, {"messages": CAPITAL, "response_format": {"type": "json_object"}}),
    "a completion": (COMPLETION, {"prompt": "one two three four five six seven", "logprobs": 1}),
}


@pytest.mark.parametrize(("path", "body"), REQUESTS.values(), ids=REQUESTS)
async def test_the_member_answers_as_the_model_itself(
    apps: tuple[ASGIApp, ASGIApp], path: str, body: dict[str, Any]
) -> None:
    near, far = apps
    assert await answer(far, path, **body) == await answer(near, path, **body)


async def test_a_stream_of_the_member_has_the_text_of_the_model(apps: tuple[ASGIApp, ASGIApp]) -> None:
    async with client(apps[1]) as http:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        found = await http.post(CHAT, json={"model": "m", "messages": CAPITAL, **GREEDY, **options}, timeout=60)
    frames = [line.removeprefix("data: ") for line in found.text.splitlines() if line.startswith("data: ")]
    assert frames[-1] == "[DONE]"
    chunks = [orjson.loads(frame) for frame in frames[:-1]]
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert "Paris" in text
    assert chunks[-1]["usage"]["completion_tokens"] > 0


async def test_what_the_model_refuses_the_member_refuses_in_the_same_words(apps: tuple[ASGIApp, ASGIApp]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "word " * 2000}]}
    refusals = []
    for app in apps:
        async with client(app) as http:
            refusals.append(await http.post(CHAT, json=body, timeout=60))
    assert [refusal.status_code for refusal in refusals] == [400, 400]
    assert refusals[0].json() == refusals[1].json()
    assert refusals[0].json()["error"]["code"] == "context_length_exceeded"


async def test_a_client_that_leaves_the_member_frees_the_models_slot(
    apps: tuple[ASGIApp, ASGIApp], near: LlamaCppHandler
) -> None:
    body = {"model": "m", "messages": CAPITAL, "temperature": 1.5, "max_tokens": 400, "stream": True}
    async with listening(apps[1]) as address, httpx.AsyncClient(headers={TOKEN_HEADER.decode(): TOKEN}) as http:
        async with http.stream("POST", f"http://{address}{CHAT}", json=body) as found:
            await anext(found.aiter_bytes())
            assert near.load_now().active == 1
        async with asyncio.timeout(20):
            await until(lambda: near.load_now().active == 0)
