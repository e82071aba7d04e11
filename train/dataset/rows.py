"""The row of a data set: one conversation in OpenAI's chat form, and where it comes from.

Exports write rows as JSONL, curation and training read them. A row that breaks a rule cannot be made: the
``ValidationError`` carries one of the types below, and never shows what was said.

=================  ==========================================================================================
``empty``          no message
``no_answer``      nobody asked or nothing was answered
``bad_roles``      a system message that is not at the start, or two users, or two assistants, in a row
``bad_tool_calls`` a call without an answer (but for the last message), an answer without a call, an id used twice
``message_size``   more than ``MAX_MESSAGE_CHARS`` characters in one message
``row_size``       more than ``MAX_MESSAGES`` messages, or more than ``MAX_ROW_CHARS`` characters together
``bad_message``    a message whose fields do not fit its role
=================  ==========================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

MAX_MESSAGE_CHARS = 2_000_000
MAX_MESSAGES = 10_000
MAX_ROW_CHARS = 32_000_000

Role = Literal["system", "developer", "user", "assistant", "tool"]
SourceName = Literal["chatgpt", "claude", "perplexity", "openwebui", "sharegpt", "alpaca", "openai", "groupqwen"]

_PREAMBLE = ("system", "developer")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is null, but for ``content``, which OpenAI's form has in every message."""
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if value is not None or name == "content"}


class FunctionCall(_Record):
    """The function that a model calls, and its arguments as the JSON text that the model wrote."""

    name: Annotated[str, Field(min_length=1)]
    arguments: str


class ToolCall(_Record):
    """One call of a tool."""

    id: Annotated[str, Field(min_length=1)]
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(_Record):
    """A message in OpenAI's chat form, text only: pictures and files are placeholders in ``content``.

    Attributes:
        reasoning_content: what the model thought before it answered.
        weight: 0 where the message is context only and is not learned from.
    """

    role: Role
    content: str | None = None
    reasoning_content: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    weight: Literal[0, 1] | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        if self.size > MAX_MESSAGE_CHARS:
            raise PydanticCustomError(
                "message_size", "{size} characters; at most {most}", {"size": self.size, "most": MAX_MESSAGE_CHARS}
            )
        if self.role != "assistant" and (self.tool_calls or self.reasoning_content or self.weight is not None):
            raise PydanticCustomError("bad_message", "only an assistant calls tools, reasons or has a weight")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise PydanticCustomError("bad_message", "tool_call_id belongs to the role tool, and to no other")
        said = self.content is not None if self.role == "tool" else self.content or self.tool_calls
        if not said:
            raise PydanticCustomError("bad_message", "a message of the role {role} says nothing", {"role": self.role})
        return self

    @property
    def size(self) -> int:
        """Characters of everything that the message says."""
        calls = sum(len(call.function.arguments) for call in self.tool_calls or ())
        return len(self.content or "") + len(self.reasoning_content or "") + calls


class RowFeedback(_Record):
    """What a person thought of the answer."""

    rating: Literal["up", "down"] | None = None
    corrected: bool = False


class Augmented(_Record):
    """How a row was made out of another one.

    Attributes:
        kind: what was done to it.
        model: who did it.
        of: the id of the row it was made of.
        language: of a translation: into which language.
    """

    kind: Literal["paraphrase", "translation"]
    model: Annotated[str, Field(min_length=1)]
    of: Annotated[str, Field(min_length=1)]
    language: str | None = None


class Provenance(_Record):
    """Where a row comes from.

    Attributes:
        file: the input as it was named; none for rows of the database.
        member: the file inside an archive.
        number: which conversation of the file or member, from 1.
        source_id: the source's own id.
        branch: of a row that is not what the user saw last: the source's id of the branch's last message.
        models: every model that answered, in order of appearance.
        times: when each message was sent, where the source says so; as many as there are messages.
        dropped: what the source has and the row has not, by kind.
        tenant: whose it is, for rows of this group's own store.
        augmented: of a row that a model wrote: out of which one, and how.
    """

    file: str | None = None
    member: str | None = None
    number: int | None = None
    source_id: str | None = None
    title: str | None = None
    updated_at: AwareDatetime | None = None
    branch: str | None = None
    models: tuple[str, ...] | None = None
    times: tuple[AwareDatetime | None, ...] | None = None
    dropped: dict[str, int] | None = None
    tenant: str | None = None
    feedback: RowFeedback | None = None
    augmented: Augmented | None = None


class Row(_Record):
    """One conversation.

    Attributes:
        id: stable: the same conversation has the same id in every export.
        created_at: when it began.
        model: who gave the last answer.
        messages: the conversation, oldest first.
        tools: the functions that the model was offered, as OpenAI describes them.
        rejected: an answer that the conversation's last one is better than.
    """

    id: Annotated[str, Field(min_length=1)]
    source: SourceName
    created_at: AwareDatetime | None = None
    model: str | None = None
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None = None
    rejected: tuple[Message, ...] | None = None
    provenance: Provenance

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        check_sizes(self.messages)
        check_roles(self.messages)
        check_tool_calls(self.messages)
        times = self.provenance.times
        if times is not None and len(times) != len(self.messages):
            raise PydanticCustomError("bad_message", "provenance.times is not as long as messages")
        return self

    def to_json(self) -> bytes:
        """The row as one line of JSONL, newline included."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            pydantic.ValidationError: it is not a row.
        """
        return cls.model_validate_json(line)

    @property
    def last_changed(self) -> datetime | None:
        """When the source last changed it, or else when it began."""
        return self.provenance.updated_at or self.created_at


def content_digest(
    messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), rejected: Sequence[Message] = ()
) -> str:
    """32 hexadecimal digits that stand for what was said: equal for equal conversations, whatever they come from."""
    said = [[message.model_dump(mode="json") for message in part] for part in (messages, rejected)]
    return hashlib.sha256(orjson.dumps([*said, list(tools)], option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def check_sizes(messages: Sequence[Message]) -> None:
    """Raise ``PydanticCustomError`` where there are no messages, or too many, or too long ones together."""
    if not messages:
        raise PydanticCustomError("empty", "no message")
    if len(messages) > MAX_MESSAGES:
        raise PydanticCustomError(
            "row_size", "{count} messages; at most {most}", {"count": len(messages), "most": MAX_MESSAGES}
        )
    size = sum(message.size for message in messages)
    if size > MAX_ROW_CHARS:
        raise PydanticCustomError(
            "row_size", "{size} characters; at most {most}", {"size": size, "most": MAX_ROW_CHARS}
        )


def check_roles(messages: Sequence[Message]) -> None:
    """Raise ``PydanticCustomError`` where the roles do not take turns, or one of the two sides is missing."""
    talk = [index for index, message in enumerate(messages) if message.role not in _PREAMBLE]
    if talk and talk != list(range(talk[0], len(messages))):
        raise PydanticCustomError("bad_roles", "a system message that is not at the start")
    for before, after in pairwise(messages):
        if before.role == after.role and before.role in ("user", "assistant"):
            raise PydanticCustomError("bad_roles", "two messages of the role {role} in a row", {"role": before.role})
    roles = {message.role for message in messages}
    if not roles >= {"user", "assistant"}:
        raise PydanticCustomError("no_answer", "needs a message of a user and one of an assistant")


def check_tool_calls(messages: Sequence[Message]) -> None:
    """Raise ``PydanticCustomError`` where calls and their answers do not belong together."""
    known: set[str] = set()
    waiting: set[str] = set()
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                raise PydanticCustomError("bad_tool_calls", "an answer to a call that was not made or is answered")
            waiting.discard(message.tool_call_id)
            continue
        if waiting:
            raise PydanticCustomError("bad_tool_calls", "a call without an answer")
        for call in message.tool_calls or ():
            if call.id in known:
                raise PydanticCustomError("bad_tool_calls", "two calls with one id")
            known.add(call.id)
            waiting.add(call.id)
    # A conversation may end with calls: what is learned from it is the calling.
    if waiting and messages[-1].role == "tool":
        raise PydanticCustomError("bad_tool_calls", "a call without an answer")
