"""How far Serve reads ahead of an upload: on Serve's own queue, which is not public."""

from __future__ import annotations

import asyncio

import pytest
from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from starlette.types import Message

from serve import cluster

END = 50


class Client:
    """Sends as fast as it is read, and then leaves."""

    def __init__(self) -> None:
        self.sent = 0

    async def receive(self) -> Message:
        await asyncio.sleep(0)
        if self.sent == END:
            return {"type": "http.disconnect"}
        self.sent += 1
        return {"type": "http.request", "body": bytes([self.sent]), "more_body": self.sent < END}


@pytest.mark.parametrize("before", [0, 3, 20])
async def test_a_client_waits_for_who_reads_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    monkeypatch.setattr(cluster, "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", False)
    client = Client()
    proxy = ASGIDIReceiveProxy({"type": "http"}, client.receive, asyncio.get_running_loop())
    fetching = proxy.fetch_until_disconnect_task()
    while client.sent < before:
        await asyncio.sleep(0)
    cluster.hold_back(proxy, 8)
    for _ in range(200):
        await asyncio.sleep(0)
    # One more is on its way into the queue.
    assert client.sent <= max(8, before + 1) + 1
    read = [await proxy() for _ in range(END)]
    assert [one["body"] for one in read] == [bytes([number + 1]) for number in range(END)]
    assert (await proxy())["type"] == "http.disconnect"
    await fetching


async def test_where_replicas_have_another_loop_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", True)
    proxy = ASGIDIReceiveProxy({"type": "http"}, Client().receive, asyncio.get_running_loop())
    queue = proxy.queue
    cluster.hold_back(proxy, 8)
    cluster.hold_back(Client().receive, 8)
    assert proxy.queue is queue and queue.maxsize == 0
