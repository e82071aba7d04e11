"""A replica whose model is not in memory."""

from __future__ import annotations

import asyncio

import httpx
from starlette.types import ASGIApp

from serve.protocol.events import Delta, Usage
from tests.unit.replica.models import CHAT, HELLO, SIGNED, Scripted, client, echo, replica, resident


def mounted(app: ASGIApp) -> httpx.AsyncClient:
    """A client of an app that is mounted at a model's route, as Serve does it."""
    transport = httpx.ASGITransport(app, root_path="/m/m")
    return httpx.AsyncClient(transport=transport, base_url="http://localhost/m/m", headers=SIGNED)


async def test_a_model_is_in_use_while_it_answers_at_the_route_that_serve_mounts_it_at() -> None:
    gate = asyncio.Event()
    handler = Scripted((Delta(text="Hi"),), gate, (Delta(finish_reason="stop"), Usage(1, 1)))
    here = resident(handler)
    async with mounted(replica(handler, at=here).asgi) as asking:
        answering = asyncio.create_task(asking.post(CHAT, json=HELLO))
        while not handler.active:
            await asyncio.sleep(0)
        assert here.report().busy == 1
        gate.set()
        assert (await answering).status_code == 200
        assert here.report().busy == 0


async def test_a_resting_model_is_not_loaded_by_a_request_but_says_that_it_rests() -> None:
    handler = echo("m")
    handler.settings = handler.settings.model_copy(update={"residency": "on_demand"})
    async with client(replica(handler).asgi) as asking:
        resting = await asking.post(CHAT, json=HELLO)
        assert (resting.status_code, resting.headers["x-groupqwen-error"]) == (503, "model_resting")
        assert resting.json()["error"]["code"] == "model_resting"
        loaded = await asking.post("/load")
        assert loaded.status_code == 200 and loaded.json()["capabilities"]["chat"] is True
        assert (await asking.post(CHAT, json=HELLO)).status_code == 200


async def test_a_model_that_always_stays_never_rests() -> None:
    async with client(replica(Scripted()).asgi) as asking:
        assert (await asking.post(CHAT, json=HELLO)).status_code == 200


async def test_a_load_needs_the_internal_token() -> None:
    async with client(replica(echo("m")).asgi, **{"x-groupqwen-internal": "wrong"}) as asking:
        assert (await asking.post("/load")).status_code == 403


async def test_the_estimate_is_told_with_the_rest() -> None:
    async with client(replica(echo("m")).asgi) as asking:
        assert (await asking.get("/info")).json()["memory_estimate_bytes"] > 0
