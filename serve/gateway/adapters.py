"""What the gateway knows of adapters: which part of ``model`` names one, and when a replica does not have it yet.

Replicas are the ones to know their adapters. The gateway only leads a request for ``id:adapter`` to the model ``id``,
and asks again where a replica, a new one maybe, is still loading the adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve.errors import AdapterLoading, AdapterNotFound, GroupQwenError, InvalidRequest, ModelStarting
from serve.gateway.members import Member
from serve.gateway.returned import AdapterNotThere
from serve.gateway.transport.base import ReplicaLost
from serve.protocol.requests import split_model

Json = dict[str, Any]


def require_no_adapter(name: str) -> None:
    """Refuse an adapter of ``auto``, which is no model of its own."""
    if ":" in name:
        raise InvalidRequest("'auto' takes no adapter; name the adapter's own model, as 'id:adapter'.", param="model")


def given_up(lost: ReplicaLost, model: str, request: Json) -> GroupQwenError:
    """What a client is told when a request was sent to ``model`` often enough."""
    _, adapter = split_model(request["model"])
    if isinstance(lost, AdapterNotThere) and adapter is not None:
        return AdapterLoading(model, adapter)
    return ModelStarting(model)


def adapters_of(member: Member) -> list[Json]:
    """The adapters of a member, as it says itself: name, state, version, reason."""
    found: list[Json] = (member.info or {}).get("adapters", [])
    return found


def bodies(member: Member) -> Iterator[Json]:
    """A model object for each adapter of ``member`` that can be asked for."""
    for adapter in adapters_of(member):
        if adapter["state"] == "ready":
            yield {
                "id": f"{member.id}:{adapter['name']}",
                "object": "model",
                "created": (member.info or {}).get("created", 0),
                "owned_by": (member.info or {}).get("owned_by", "groupqwen"),
                "root": member.id,
                "parent": member.id,
                "state": member.state,
                "version": adapter["version"],
            }


def body(member: Member, name: str) -> Json:
    """The model object of one adapter of ``member``.

    Raises:
        AdapterNotFound: it has none of that name that can be asked for.
    """
    found = {one["id"]: one for one in bodies(member)}
    wanted = f"{member.id}:{name}"
    if wanted not in found:
        raise AdapterNotFound(member.id, name, [one["name"] for one in adapters_of(member)])
    return found[wanted]
