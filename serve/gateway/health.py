"""Whether the process lives, whether the group can answer, and in detail what is wrong."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from serve import __version__
from serve.gateway.members import Members
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
        """200 when the store answers and every model that Serve has is ready, and there is one; else 503.

        A model that is not in memory and is brought back by a request counts as ready.
        """
        waiting = [member.id for member in self._members.all() if not (member.ready or member.rests)]
        store = await self._store.healthy()
        ready = store and self._members.alive and not waiting and bool(self._members.all())
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
            "models": {member.id: {"state": member.state, "replicas": member.replicas} for member in members},
        }
        await send_json(send, body, status=200 if healthy else 503)

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The counts of this gateway replica."""
        await send_json(send, self._metrics.body())
