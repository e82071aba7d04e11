"""Chat completions, completions and embeddings: find the model, ask it, relay its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.types import Receive, Scope, Send

from serve.errors import InternalError, InvalidRequest, Unavailable
from serve.gateway.adapters import given_up, require_no_adapter
from serve.gateway.caller import GROUP, Caller, caller_of
from serve.gateway.feedback_watch import FeedbackWatch
from serve.gateway.limits import RateLimits
from serve.gateway.members import POLL_SECONDS, Member, Members
from serve.gateway.metrics import GatewayMetrics
from serve.gateway.relay import Keep, relay
from serve.gateway.returned import ModelRests, require_taken
from serve.gateway.tasks import Tasks
from serve.gateway.transport.base import RawHeaders, ReplicaLost, Transport
from serve.gateway.usage import UsageLedger
from serve.gateway.waking import Line, Tell, Waking
from serve.protocol.http import as_error, read_body
from serve.protocol.requests import AUTO, split_model
from serve.protocol.validation import parse_json
from serve.replica.asgi import MODEL_HEADER
from serve.routing.features import Features, features_of
from serve.routing.policy import Decision, Policy
from serve.settings.gateway import Limits, Timeouts, Wake
from serve.store import Conversation, Store
from serve.store.values import clean_json

logger = logging.getLogger(__name__)

Json = dict[str, Any]
_FIRST_RETRY_SECONDS = 0.05
_LAST_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the three inference routes: its path, and what a model must be able to do."""

    path: str
    capability: str


CHAT = Kind("/v1/chat/completions", "chat")
COMPLETION = Kind("/v1/completions", "completion")
EMBEDDING = Kind("/v1/embeddings", "embeddings")


@dataclass(slots=True)
class Behaviour:
    """What can change while the gateway runs; replaced whole by ``reconfigure``."""

    policy: Policy
    limits: Limits
    timeouts: Timeouts
    wake: Wake


class Inference:
    """Carries inference requests to the group's models."""

    def __init__(
        self,
        members: Members,
        transport: Transport,
        internal_headers: RawHeaders,
        store: Store,
        usage: UsageLedger,
        rate_limits: RateLimits,
        metrics: GatewayMetrics,
        waking: Waking,
        feedback_watch: FeedbackWatch,
        tasks: Tasks,
        behaviour: Behaviour,
    ) -> None:
        self._members = members
        self._transport = transport
        self._internal = internal_headers
        self._store = store
        self._usage = usage
        self._rate_limits = rate_limits
        self._metrics = metrics
        self._waking = waking
        self._feedback_watch = feedback_watch
        self._tasks = tasks
        self.behaviour = behaviour

    def endpoint(self, kind: Kind) -> Callable[[Scope, Receive, Send], Any]:
        """The ASGI endpoint of ``kind``."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            caller_of(scope).require("inference")
            body = await read_body(scope, receive, self.behaviour.limits.body_bytes)
            await self.respond(kind, scope, body, send)

        return answer

    async def respond(self, kind: Kind, scope: Scope, body: bytes, send: Send, tell: Tell | None = None) -> None:
        """Answer one request whose body is there.

        ``tell`` is called now and then while the request waits for a model to be brought into memory; without it, a
        stream is kept alive with comments.
        """
        request = parse_json(body)
        self._check(request)
        if kind is CHAT and request.get("translation_options") is not None and caller_of(scope) is not GROUP:
            await self._translate(scope, request, body, send)
            return
        line = Line(send, lambda: scope["state"]["route"].encode())
        if tell is None and request.get("stream") is True:
            tell = line.tell
        try:
            await self._carry_out(kind, scope, request, body, line, tell)
        except Exception as raised:
            if not line.begun:
                raise
            error = as_error(raised)
            if isinstance(error, InternalError):
                logger.exception("a stream failed in the gateway")
            await line.fail(error)

    async def _translate(self, scope: Scope, request: Json, body: bytes, send: Send) -> None:
        """A chat with ``translation_options`` is for the translation task, which asks the model that it names."""
        keep = self._keeper(caller_of(scope), request, "task") if request.get("store") is True else None
        await self._tasks.respond("translation", "POST", CHAT.path, scope, body, send, keep)

    async def _carry_out(
        self, kind: Kind, scope: Scope, request: Json, body: bytes, line: Line, tell: Tell | None
    ) -> None:
        """Find a model, bring it into memory where it is not, and ask it.

        A request whose model cannot be reached, or is lost before its first byte, is sent again for as long as
        ``timeouts.replica_wait``; nothing is ever sent again once the client has seen a byte of the answer.
        """
        caller = caller_of(scope)
        clock = asyncio.get_running_loop().time
        deadline, wake_deadline = clock() + self.behaviour.timeouts.replica_wait, None
        pause = _FIRST_RETRY_SECONDS
        while True:
            member, reason = await self._choose(kind, request)
            model = member.id
            scope["state"].update(model=model, route=reason)
            try:
                if member.rests:
                    raise ModelRests
                await self._attempt(kind, scope, caller, request, body, model, reason, line.answer)
                return
            except ModelRests:
                wake_deadline = wake_deadline or clock() + self.behaviour.wake.timeout
                await self._waking.wait(model, self.behaviour.wake, wake_deadline, tell)
                deadline, pause = clock() + self.behaviour.timeouts.replica_wait, _FIRST_RETRY_SECONDS
                continue
            except ReplicaLost as lost:
                logger.warning("a model did not answer", extra={"model": model, "reason": str(lost)})
                if clock() + pause > deadline:
                    raise given_up(lost, model, request) from lost
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_RETRY_SECONDS)

    def _check(self, request: Json) -> None:
        """Check what the gateway itself relies on; the model checks the rest."""
        if not isinstance(request.get("model"), str) or not request["model"]:
            raise InvalidRequest(
                "model: name a model of this group, or 'auto'; GET /v1/models lists them.",
                param="model",
                code="missing_parameter" if "model" not in request else None,
            )
        messages, most = request.get("messages"), self.behaviour.limits.message_count
        if isinstance(messages, list) and len(messages) > most:
            raise InvalidRequest(f"messages: {len(messages)} of them; the most allowed is {most}.", param="messages")

    async def _choose(self, kind: Kind, request: Json) -> tuple[Member, str]:
        """The model that answers, and why. It may have to be brought into memory first."""
        if request["model"] == AUTO:
            return await self._choose_any(kind, request)
        name, _ = split_model(request["model"])
        if name == AUTO:
            require_no_adapter(request["model"])
        member = await self._members.wait_ready(name, self.behaviour.timeouts.replica_wait)
        if member.info is not None and not member.can(kind.capability):
            raise InvalidRequest(f"The model {member.id!r} does not serve {kind.path}.", param="model")
        return member, "named"

    async def _choose_any(self, kind: Kind, request: Json) -> tuple[Member, str]:
        """The model that the policy names; one that was lost is waited for when no other can take the request."""
        features = features_of(request)
        deadline = asyncio.get_running_loop().time() + self.behaviour.timeouts.replica_wait
        while True:
            try:
                decision = self._decide(kind, features)
            except (Unavailable, InvalidRequest):
                if not self._members.restarting or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(POLL_SECONDS)
            else:
                return self._members.get(decision.model), decision.reason

    def _decide(self, kind: Kind, features: Features) -> Decision:
        """What the policy decides; a model that is not in memory is taken where the policy says so, and where no
        other can answer."""
        policy = self.behaviour.policy
        if not policy.wakes:
            with suppress(Unavailable, InvalidRequest):
                return policy.decide(features, self._members.candidates(kind.capability))
        return policy.decide(features, self._members.candidates(kind.capability, resting=True))

    async def _attempt(
        self,
        kind: Kind,
        scope: Scope,
        caller: Caller,
        request: Json,
        body: bytes,
        model: str,
        reason: str,
        send: Send,
    ) -> None:
        request_id: bytes = scope["state"]["request_id"]
        keep = self._keeper(caller, request, reason) if kind is CHAT and request.get("store") is True else None
        headers = [*self._internal, (b"content-type", b"application/json"), (b"x-request-id", request_id)]
        answer = await self._transport.ask(model, "POST", kind.path, headers, body)

        def count(prompt: int, completion: int) -> None:
            self._metrics.tokens(model, prompt, completion)
            if caller.key_id is not None:
                self._usage.add(caller.key_id, model, prompt, completion)
                self._rate_limits.add_tokens(caller.key_id, prompt + completion)

        answered = answer.header(MODEL_HEADER) if answer.status < 400 else None
        if answered is not None and request["model"] in (AUTO, model):
            self._feedback_watch.note(model, answered.decode("latin-1"))
        try:
            require_taken(answer)
            await relay(send, answer, [(b"x-groupqwen-route", reason.encode())], count, keep)
        finally:
            answer.close()

    def _keeper(self, caller: Caller, request: Json, reason: str) -> Keep:
        """What stores a finished answer, because its request asked for it.

        Raises:
            InvalidRequest: the request cannot be stored; known before anything is generated.
        """
        asked = {name: value for name, value in request.items() if name not in ("store", "metadata")}
        clean_json(asked, "request")
        # The answer's own time has whole seconds, too few to list conversations in their order.
        created_at = datetime.now(UTC)

        async def keep(answer: dict[str, Any]) -> None:
            await self._store.conversations.add(
                Conversation(
                    id=answer["id"],
                    tenant=caller.tenant,
                    created_at=created_at,
                    model=answer["model"],
                    request=asked,
                    choices=answer["choices"],
                    usage=answer["usage"],
                    metadata=request.get("metadata") or {},
                    route=reason,
                )
            )

        return keep
