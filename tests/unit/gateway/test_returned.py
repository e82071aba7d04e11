"""Which answers of a replica give the request back, unseen by the client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from serve.errors import (
    AdapterLoading,
    GroupQwenError,
    ModelLost,
    ModelResting,
    QueueFull,
    Unavailable,
    UpstreamFailed,
)
from serve.gateway.returned import AdapterNotThere, ModelRests, require_taken
from serve.gateway.transport.base import Answer, ReplicaLost
from serve.protocol.http import send_error


class Refused(Answer):
    """The head of the answer that a replica sends for ``error``."""

    def __init__(self, error: GroupQwenError) -> None:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        asyncio.run(send_error(send, error))
        self.status, self.headers = sent[0]["status"], sent[0]["headers"]

    async def chunks(self) -> Any:
        """Nothing: what is in it is not asked for."""
        for part in list[bytes]():
            yield part

    def close(self) -> None:
        """Nothing to give back."""


def test_a_model_that_rests_is_brought_back() -> None:
    with pytest.raises(ModelRests):
        require_taken(Refused(ModelResting("m")))


def test_an_adapter_that_is_loading_is_asked_for_again() -> None:
    with pytest.raises(AdapterNotThere) as raised:
        require_taken(Refused(AdapterLoading("m", "a")))
    assert not raised.value.begun


def test_a_dead_engine_is_a_lost_replica() -> None:
    with pytest.raises(ReplicaLost) as raised:
        require_taken(Refused(ModelLost("m")))
    assert not raised.value.begun


@pytest.mark.parametrize(
    "error", [Unavailable("not now"), QueueFull("m"), UpstreamFailed("lost", code="model_lost")], ids=repr
)
def test_every_other_error_is_for_the_client(error: GroupQwenError) -> None:
    require_taken(Refused(error))
