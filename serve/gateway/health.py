"""Whether the process lives, whether the group can answer, and in detail what is wrong."""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Scope, Send

from serve import __version__
from serve.gateway.members import Member, Members
from serve.gateway.metrics import GatewayMetrics
from serve.protocol.http import send_json
from serve.store import Store


class Health:
    """The endpoints of health and of the counts that the page shows."""

    def __init__(self, members: Members, store: Store, metrics: GatewayMetrics) -> None:
        self._members = members
        self._store = store
        self._metrics = metrics

    async def livez(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 while this process can answer at all."""
        await send_json(send, {"status": "alive"})

    async def readyz(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 when the store answers and every model and task is ready, and there is a model; else 503.

        A model that is not in memory and is brought back by a request counts as ready.
        """
        models = self._members.all()
        waiting = [one.id for one in (*models, *self._members.tasks()) if not (one.ready or one.rests)]
        store = await self._store.healthy()
        ready = store and self._members.alive and not waiting and bool(models)
        body = {"status": "ready" if ready else "not ready", "waiting_for": waiting, "store": store}
        await send_json(send, body, status=200 if ready else 503, headers=[] if ready else [(b"retry-after", b"1")])

    async def health(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The state of every part."""
        members = self._members.all()
        store = await self._store.healthy()
        healthy = store and self._members.alive and any(member.ready or member.rests for member in members)
        body = {
            "status": "healthy" if healthy else "unhealthy",
            "version": __version__,
            "store": "healthy" if store else "unhealthy",
            "models": {one.id: _state(one) for one in members},
            "tasks": {one.id: {"task": one.application.task, **_state(one)} for one in self._members.tasks()},
        }
        await send_json(send, body, status=200 if healthy else 503)

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The counts of this gateway replica."""
        await send_json(send, self._metrics.body())


def _state(member: Member) -> dict[str, Any]:
    return {"state": member.state, "replicas": member.replicas}
