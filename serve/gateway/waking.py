"""Requests that wait for a model which is not in memory: it is brought back once for all of them.

They are bounded for each model, and a client that streams is shown signs of life meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from contextvars import Context

import orjson
from starlette.types import Message, Send

from serve.cluster import WakeFailed
from serve.errors import GroupQwenError, TooManyWaiting, Unavailable, WaitedTooLong
from serve.gateway.members import POLL_SECONDS, Members
from serve.gateway.transport.base import RawHeaders, ReplicaLost, Transport
from serve.protocol.http import STREAM_HEADERS
from serve.protocol.sse import comment, frame
from serve.replica.asgi import MODEL_HEADER
from serve.replica.residence import LOAD_PATH
from serve.settings.gateway import Wake

logger = logging.getLogger(__name__)

#: Asks Serve to start a model that has no replica, by its id and a request.
WakeModel = Callable[[str, str, str, RawHeaders], Awaitable[None]]
#: Tells a client that its request waits for a model.
Tell = Callable[[str], Awaitable[None]]

_FAILED = ("failed", "unhealthy", "deleting")
#: How often it is looked whether a model that is being started has failed.
_LOOK_SECONDS = 1.0


class Waking:
    """Brings models back, and keeps those who wait."""

    def __init__(self, members: Members, transport: Transport, internal: RawHeaders, wake_model: WakeModel) -> None:
        self._members = members
        self._transport = transport
        self._internal = internal
        self._wake_model = wake_model
        self._waiting: Counter[str] = Counter()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def waiting(self, model: str) -> int:
        """How many requests wait for a model."""
        return self._waiting[model]

    async def wait(self, model: str, settings: Wake, deadline: float, tell: Tell | None) -> None:
        """Wait until ``model`` is in memory, or until ``deadline`` on the loop's clock.

        Args:
            tell: called every ``settings.keepalive`` seconds.

        Raises:
            TooManyWaiting, WaitedTooLong, Unavailable: it does not come.
        """
        if self._waiting[model] >= settings.max_waiting:
            raise TooManyWaiting(model)
        self._waiting[model] += 1
        task = self._task(model)
        clock = asyncio.get_running_loop().time

        def left() -> float:
            return max(0.0, deadline - clock())

        try:
            while not (await asyncio.wait({task}, timeout=min(settings.keepalive, left())))[0]:
                if not left():
                    raise WaitedTooLong(model, settings.timeout)
                if tell is not None:
                    await tell(model)
            task.result()
        finally:
            self._leave(model)

    def close(self) -> None:
        """Stop bringing models back."""
        for task in self._tasks.values():
            task.cancel()

    def _task(self, model: str) -> asyncio.Task[None]:
        task = self._tasks.get(model)
        if task is None:
            # In a context of its own: Serve cancels what a request has asked of it when the request's client leaves.
            task = self._tasks[model] = asyncio.create_task(self._bring(model), context=Context())
        return task

    def _leave(self, model: str) -> None:
        """One fewer waits; the last one takes what they waited for along, whether it came or not."""
        self._waiting[model] -= 1
        if not self._waiting[model]:
            del self._waiting[model]
            self._tasks.pop(model).cancel()

    async def _bring(self, model: str) -> None:
        """Bring a model into memory, and wait until the list of members says so."""
        logger.info("waking a model", extra={"model": model})
        began = asyncio.get_running_loop().time()
        asleep = not self._members.get(model).replicas
        asking = asyncio.create_task(self._start(model) if asleep else self._load(model))
        try:
            while not (await asyncio.wait({asking}, timeout=_LOOK_SECONDS))[0]:
                member = self._members.get(model)
                if member.state in _FAILED:
                    raise _failed(model, member.application.message)
            asking.result()
        finally:
            asking.cancel()
        if asleep:
            self._transport.renew()
        await self._members.look()
        while not self._members.get(model).ready:
            await asyncio.sleep(POLL_SECONDS)
            await self._members.look()
        seconds = round(asyncio.get_running_loop().time() - began, 2)
        logger.info("a model is awake", extra={"model": model, "seconds": seconds})

    async def _start(self, model: str) -> None:
        try:
            await self._wake_model(model, "GET", "/info", self._internal)
        except WakeFailed as failure:
            raise _failed(model, str(failure)) from failure

    async def _load(self, model: str) -> None:
        """Ask a replica to load its model; one that is lost meanwhile comes back and is asked again."""
        while True:
            try:
                answer = await self._transport.ask(model, "POST", LOAD_PATH, self._internal, b"")
                with closing(answer):
                    body = await answer.body()
            except ReplicaLost as lost:
                logger.warning("a model did not answer", extra={"model": model, "reason": str(lost)})
                await asyncio.sleep(POLL_SECONDS)
                continue
            if answer.status == 200:
                return
            error = orjson.loads(body)["error"]
            raise Unavailable(error["message"], code=error["code"], retry_after=30)


class Line:
    """A stream to a client that may have to begin before the model answers.

    Once it has begun, its status is 200; an answer that turns out to be an error ends it with an error object.

    Attributes:
        begun: whether the head has gone out.
    """

    def __init__(self, send: Send, route: Callable[[], bytes]) -> None:
        self._send = send
        self._route = route
        self._error: bytes | None = None
        self.begun = False

    async def tell(self, model: str) -> None:
        """Say that the request waits for a model."""
        if not self.begun:
            self.begun = True
            headers = [*STREAM_HEADERS, (MODEL_HEADER, model.encode()), (b"x-groupqwen-route", self._route())]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._part(comment(f"waiting for {model}"), more=True)

    @property
    def answer(self) -> Send:
        """What takes the messages of the answer: the client itself, as long as nothing has gone out."""
        return self._continue if self.begun else self._send

    async def _continue(self, message: Message) -> None:
        """Pass on a message of an answer whose head has gone out already."""
        if message["type"] == "http.response.start":
            self._error = None if message["status"] == 200 else b""
        elif self._error is None:
            await self._send(message)
        else:
            self._error += message["body"]
            if not message.get("more_body"):
                await self._part(frame(orjson.loads(self._error)), more=False)

    async def fail(self, error: GroupQwenError) -> None:
        """End the stream with an error object."""
        await self._part(frame(error.body()), more=False)

    async def _part(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def _failed(model: str, reason: str) -> Unavailable:
    logger.error("a model cannot be started", extra={"model": model, "reason": reason})
    return Unavailable(f"The model {model!r} could not be started.", code="wake_failed", retry_after=30)
