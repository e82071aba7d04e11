"""What both ways to a model have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

RawHeaders = list[tuple[bytes, bytes]]

#: Where Serve mounts models, and where tasks.
MODELS = "m"
TASKS = "t"


class ReplicaLost(Exception):
    """The connection to a replica broke, or none could be made.

    Attributes:
        begun: whether a part of the answer had already come.
    """

    def __init__(self, reason: str, *, begun: bool) -> None:
        super().__init__(reason)
        self.begun = begun


class Answer(ABC):
    """A model's answer, whose head is there and whose body comes.

    Attributes:
        status: the HTTP status. headers: names in lower case.
    """

    status: int
    headers: RawHeaders

    @property
    def ended(self) -> bool:
        """Whether it is known already that nothing follows what ``chunks`` has given."""
        return False

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, or none."""
        return next((value for key, value in self.headers if key == name), None)

    @abstractmethod
    def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes. Raises ``ReplicaLost`` where it breaks off."""

    @abstractmethod
    def close(self) -> None:
        """Be done with the answer; when its body has not ended, the model stops working on it."""

    async def body(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks()])


class Transport(ABC):
    """A way to ask models."""

    @abstractmethod
    async def ask(
        self, model: str, method: str, path: str, headers: RawHeaders, body: bytes, mount: str = MODELS
    ) -> Answer:
        """Send a request to some replica of ``model``, or of a task, and wait for the head of its answer.

        Args:
            mount: ``MODELS`` or ``TASKS``.

        Raises:
            ReplicaLost: no replica took the request, or it was lost before it answered.
            QueueFull: Serve refused it because the model's queue is full.
        """

    def renew(self) -> None:
        """Keep nothing from before the replicas changed."""
        return

    @abstractmethod
    async def close(self) -> None:
        """Close every connection."""
