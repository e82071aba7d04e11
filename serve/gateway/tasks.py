"""Requests for a task: find its application, ask it, relay its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from serve.errors import TaskStarting, TaskTimeout
from serve.gateway.caller import Caller, caller_of
from serve.gateway.limits import RateLimits
from serve.gateway.members import POLL_SECONDS, Members
from serve.gateway.relay import Keep, relay
from serve.gateway.transport.base import TASKS, RawHeaders, ReplicaLost, Transport
from serve.gateway.usage import UsageLedger
from serve.protocol.http import header, read_body
from serve.settings.gateway import Limits, Timeouts

logger = logging.getLogger(__name__)

_ROUTE = "task"


class Tasks:
    """Carries requests to the group's tasks.

    Attributes:
        limits, timeouts: replaced when the gateway is reconfigured.
    """

    def __init__(
        self,
        members: Members,
        transport: Transport,
        internal_headers: RawHeaders,
        usage: UsageLedger,
        rate_limits: RateLimits,
        limits: Limits,
        timeouts: Timeouts,
    ) -> None:
        self._members = members
        self._transport = transport
        self._internal = internal_headers
        self._usage = usage
        self._rate_limits = rate_limits
        self.limits = limits
        self.timeouts = timeouts

    def endpoint(self, task: str, method: str, path: str) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """The ASGI endpoint of an address of ``task``."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            caller_of(scope).require("inference")
            body = await read_body(scope, receive, self.limits.body_bytes) if method != "GET" else b""
            await self.respond(task, method, path, scope, body, send)

        return answer

    async def respond(
        self, task: str, method: str, path: str, scope: Scope, body: bytes, send: Send, keep: Keep | None = None
    ) -> None:
        """Answer one request whose body is there.

        A replica that is lost before its first byte is asked again for as long as ``timeouts.replica_wait``.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            member = await self._members.wait_task(task, self.timeouts.replica_wait)
            scope["state"].update(model=member.id, route=_ROUTE)
            try:
                await self._attempt(member.id, method, path, scope, body, send, keep)
                return
            except ReplicaLost as lost:
                logger.warning("a task did not answer", extra={"task": member.id, "reason": str(lost)})
                passed = loop.time() - begun
                if passed >= self.timeouts.task_first_byte:
                    raise TaskTimeout(task, passed) from lost
                if passed + POLL_SECONDS > self.timeouts.replica_wait:
                    raise TaskStarting(task) from lost
            await asyncio.sleep(POLL_SECONDS)

    async def _attempt(
        self, id: str, method: str, path: str, scope: Scope, body: bytes, send: Send, keep: Keep | None
    ) -> None:
        caller: Caller = caller_of(scope)
        kind = header(scope, b"content-type") or b"application/json"
        headers = [*self._internal, (b"content-type", kind), (b"x-request-id", scope["state"]["request_id"])]
        answer = await self._transport.ask(id, method, path, headers, body, TASKS)

        def count(prompt: int, completion: int) -> None:
            # The models' own counts have these tokens already: a task asks through the gateway.
            if caller.key_id is not None:
                self._usage.add(caller.key_id, id, prompt, completion)
                self._rate_limits.add_tokens(caller.key_id, prompt + completion)

        try:
            await relay(send, answer, [(b"x-groupqwen-route", _ROUTE.encode())], count, keep)
        finally:
            answer.close()
