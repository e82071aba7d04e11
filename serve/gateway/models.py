"""``/v1/models``: what the group has."""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Scope, Send

from serve.gateway import adapters
from serve.gateway.members import Member, Members
from serve.protocol.http import send_json
from serve.protocol.requests import AUTO, split_model

Json = dict[str, Any]


class Models:
    """The endpoints of the models' list."""

    def __init__(self, members: Members) -> None:
        self._members = members

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every model, each adapter that is ready, and ``auto``, in OpenAI's list form with more fields."""
        await self._members.ask_again()
        members = self._members.all()
        data = [one for member in members for one in (_body(member), *adapters.bodies(member))]
        await send_json(send, {"object": "list", "data": [*data, _AUTO_BODY] if data else data})

    async def get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One model, or one adapter of a model."""
        model, adapter = split_model(scope["path_params"]["model"])
        if model == AUTO and adapter is None:
            await send_json(send, _AUTO_BODY)
            return
        await self._members.ask_again()
        member = self._members.get(model)
        await send_json(send, _body(member) if adapter is None else adapters.body(member, adapter))


_AUTO_BODY: Json = {
    "id": AUTO,
    "object": "model",
    "created": 0,
    "owned_by": "groupqwen",
    "state": "ready",
    "handler": "routing",
    "description": "The gateway chooses a model for each request.",
}


def _body(member: Member) -> Json:
    info = member.info or {}
    return {
        "id": member.id,
        "object": "model",
        "created": info.get("created", 0),
        "owned_by": info.get("owned_by", "groupqwen"),
        "state": member.state,
        "message": member.application.message if member.state in ("failed", "unhealthy") else "",
        "handler": info.get("handler"),
        "replicas": member.replicas,
        "context": info.get("capabilities", {}).get("context"),
        "capabilities": {name: on for name, on in info.get("capabilities", {}).items() if isinstance(on, bool)},
        "pictures": info.get("capabilities", {}).get("pictures"),
        "dimensions": info.get("capabilities", {}).get("dimensions"),
        "adapters": adapters.adapters_of(member),
        "residency": member.application.residency,
        **_memory(member, info),
    }


def _memory(member: Member, info: Json) -> Json:
    """What the processes of its replicas hold now, and what one replica was estimated to need; none where that is not
    known."""
    now = sum(report.resident for report in member.reports) if member.reports else None
    return {
        "memory_bytes": 0 if member.state == "asleep" else now,
        "memory_estimate_bytes": info.get("memory_estimate_bytes"),
    }
