"""Answers with which a replica gives a request back: it cannot carry it out now, and no client need hear of it."""

from __future__ import annotations

from serve.errors import AdapterLoading, ModelLost, ModelResting, Unavailable
from serve.gateway.transport.base import Answer, ReplicaLost
from serve.protocol.http import ERROR_HEADER


class ModelRests(Exception):
    """The replica's model is not in memory; it has to be brought back first."""


class AdapterNotThere(ReplicaLost):
    """The replica is still loading the adapter that the request names."""

    def __init__(self) -> None:
        super().__init__("it is still loading the adapter", begun=False)


def require_taken(answer: Answer) -> None:
    """Raise when the answer only says that the request is to be sent again; nothing of it has reached the client.

    Raises:
        ModelRests: after its model was brought back.
        AdapterNotThere: a moment later, maybe to another replica.
        ReplicaLost: to another replica; this one's engine died.
    """
    if answer.status != Unavailable.status:
        return
    code = (answer.header(ERROR_HEADER) or b"").decode("latin-1")
    if code == ModelResting.default_code:
        raise ModelRests
    if code == AdapterLoading.default_code:
        raise AdapterNotThere
    if code == ModelLost.default_code:
        raise ReplicaLost("its engine died", begun=False)
