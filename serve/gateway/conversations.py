"""Stored conversations and feedback on them. Each caller sees its own only."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from serve.errors import InvalidRequest
from serve.gateway.caller import Caller, caller_of
from serve.gateway.query import query_of
from serve.protocol.http import read_body, send_json
from serve.protocol.requests import Metadata
from serve.protocol.validation import parse_json, parse_request
from serve.store import Conversation, Feedback, Store

Json = dict[str, Any]
T = TypeVar("T", bound=BaseModel)
BODY_BYTES = 1024 * 1024


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)


class FeedbackRequest(_Body):
    """``POST /v1/feedback``: a rating, a correction that should have been the answer, a comment; at least one."""

    conversation_id: Annotated[str, Field(min_length=1, max_length=128)]
    choice: Annotated[int, Field(ge=0)] = 0
    rating: Literal["up", "down"] | None = None
    correction: Annotated[str, Field(min_length=1)] | None = None
    comment: Annotated[str, Field(min_length=1)] | None = None


class MetadataRequest(_Body):
    """``POST /v1/conversations/{id}``: the metadata that replaces the old."""

    metadata: Metadata


class ConversationQuery(_Body):
    """Which conversations to list; ``metadata[key]=value`` filters too."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = None
    order: Literal["asc", "desc"] = "desc"
    model: str | None = None


class Conversations:
    """The endpoints of conversations and feedback."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page of the caller's conversations."""
        caller = _allowed(scope)
        query, metadata = _query(scope)
        page = await self._store.conversations.list(
            caller.tenant,
            limit=query.limit,
            after=query.after,
            order=query.order,
            model=query.model,
            metadata=metadata,
        )
        data = [conversation_body(one) for one in page.items]
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        await send_json(
            send, {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": page.has_more}
        )

    async def get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One conversation, with its feedback."""
        tenant, conversation_id = _allowed(scope).tenant, scope["path_params"]["id"]
        found = await self._store.conversations.get(conversation_id, tenant)
        feedback = await self._store.feedback.list(conversation_id, tenant)
        await send_json(send, {**conversation_body(found), "feedback": [feedback_body(one) for one in feedback]})

    async def update(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Replace a conversation's metadata."""
        wanted = await _read(MetadataRequest, scope, receive)
        found = await self._store.conversations.update_metadata(
            scope["path_params"]["id"], _allowed(scope).tenant, wanted.metadata
        )
        await send_json(send, conversation_body(found))

    async def delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Delete a conversation and the feedback on it."""
        conversation_id = scope["path_params"]["id"]
        await self._store.conversations.delete(conversation_id, _allowed(scope).tenant)
        await send_json(send, {"id": conversation_id, "object": "conversation.deleted", "deleted": True})

    async def add_feedback(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record feedback on a stored answer."""
        caller = caller_of(scope)
        caller.require("inference")
        asked = await _read(FeedbackRequest, scope, receive)
        feedback = Feedback(
            id=f"fb-{secrets.token_hex(12)}",
            conversation_id=asked.conversation_id,
            tenant=caller.tenant,
            created_at=datetime.now(UTC),
            choice_index=asked.choice,
            rating=asked.rating,
            correction=asked.correction,
            comment=asked.comment,
        )
        try:
            await self._store.feedback.add(feedback)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, param="choice") from error  # As this API calls the store's field.
        await send_json(send, feedback_body(feedback))


def conversation_body(one: Conversation) -> Json:
    """A conversation as JSON."""
    return {
        "id": one.id,
        "object": "conversation",
        "created": int(one.created_at.timestamp()),
        "model": one.model,
        "route": one.route,
        "metadata": one.metadata,
        "request": one.request,
        "choices": one.choices,
        "usage": one.usage,
    }


def feedback_body(one: Feedback) -> Json:
    """Feedback as JSON."""
    return {
        "id": one.id,
        "object": "feedback",
        "created": int(one.created_at.timestamp()),
        "conversation_id": one.conversation_id,
        "choice": one.choice_index,
        "rating": one.rating,
        "correction": one.correction,
        "comment": one.comment,
    }


def _allowed(scope: Scope) -> Caller:
    caller = caller_of(scope)
    caller.require("conversations")
    return caller


async def _read(kind: type[T], scope: Scope, receive: Receive) -> T:
    return parse_request(kind, parse_json(await read_body(scope, receive, BODY_BYTES)))


def _query(scope: Scope) -> tuple[ConversationQuery, dict[str, str]]:
    fields, metadata = query_of(scope)
    if not re.fullmatch("[0-9]{1,9}", str(fields.get("limit", 0))):
        raise InvalidRequest("limit: must be a number from 1 to 100.", param="limit")
    return parse_request(ConversationQuery, fields), metadata
