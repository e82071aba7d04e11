"""The forms of a training example, field by field, so that a fault names its field and what is allowed there.

After OpenAI's documentation of fine-tuning files: https://platform.openai.com/docs/api-reference/fine-tuning/chat-input
and .../preference-input. What the messages have to be together is said by ``train.dataset.rows``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from serve.protocol.requests import FunctionCall, FunctionDefinition, Tool, ToolCall
from serve.settings.errors import known_keys, path_of, unknown_key
from train.dataset.rows import MAX_MESSAGES

Json = dict[str, Any]

#: Most tools, and most calls in a message; OpenAI's own bound for tools.
MAX_TOOLS = 128

#: Keys of a file are shown only where they look like names: anything else may be text that does not belong in a log.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in an example.

    Attributes:
        field: its path, such as ``messages[0].role``; none where it is the example as a whole.
        reason: a machine-readable name.
        message: what is wrong and what is allowed; never what the file says there.
    """

    field: str | None
    reason: str
    message: str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, frozen=True)


class _Open(BaseModel):
    """What may have more keys than are looked at."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True, frozen=True)


class Part(_Open):
    """A piece of a message's content; pictures, sound and files become marks in the text."""

    type: Literal["text", "refusal", "image_url", "input_audio", "file"]
    text: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def _has_its_text(self) -> Self:
        if (self.type == "text" and self.text is None) or (self.type == "refusal" and self.refusal is None):
            raise PydanticCustomError("missing_text", "a part of type {type} needs {type}", {"type": self.type})
        return self


def _parts(content: object) -> object:
    """Text as a list of one part, so that a fault in a part has one path and not two."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is None or isinstance(content, list):
        return content
    raise PydanticCustomError("wrong_content", "must be text, or a list of parts")


class ChatMessage(_Strict):
    """A message of an example."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[list[Part] | None, Field(max_length=MAX_MESSAGES), BeforeValidator(_parts)] = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    weight: Literal[0, 1] | None = None
    audio: Any = None
    annotations: Any = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        says = self.content is not None
        if self.role == "assistant":
            says = says or bool(self.tool_calls or self.function_call or self.refusal)
        elif self.tool_calls or self.function_call or self.weight is not None:
            raise PydanticCustomError("bad_message", "only an assistant has tool_calls, function_call or weight")
        if not says:
            raise PydanticCustomError(
                "missing_content", "content is required, except where an assistant calls a tool"
            )
        if self.role == "tool" and not self.tool_call_id:
            raise PydanticCustomError("missing_call_id", "a message of the role tool needs tool_call_id")
        return self


class AnswerMessage(ChatMessage):
    """A message of one of the two answers of a pair."""

    role: Literal["assistant"]


class ChatExample(_Open):
    """``messages`` with the tools that were on offer."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    functions: Annotated[list[FunctionDefinition], Field(max_length=MAX_TOOLS)] | None = None
    parallel_tool_calls: bool | None = None


class PreferencePair(_Open):
    """What was asked, and two answers of which one is better."""

    input: ChatExample
    preferred_output: Annotated[list[AnswerMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    non_preferred_output: Annotated[list[AnswerMessage], Field(min_length=1, max_length=MAX_MESSAGES)]


#: Keys beside a form's own that are read too, or do no harm.
_KNOWN_BESIDES = frozenset({"created", "created_at", "model", "metadata", "id"})


def form_of(value: Mapping[str, Any]) -> type[ChatExample | PreferencePair] | None:
    """The form that an object is meant to have, by its keys."""
    if value.keys() & {"input", "preferred_output", "non_preferred_output"}:
        return PreferencePair
    return ChatExample if "messages" in value else None


def faults_in(value: Json, form: type[ChatExample | PreferencePair]) -> Iterator[Fault]:
    """Everything that is wrong with the fields of an example."""
    try:
        form.model_validate(value)
    except ValidationError as error:
        yield from faults_of(error, form)


def ignored_keys(value: Json, form: type[ChatExample | PreferencePair]) -> list[str]:
    """Keys that nothing reads, as paths."""
    inner = value.get("input") if form is PreferencePair else None
    found = [("", key) for key in value.keys() - form.model_fields.keys() - _KNOWN_BESIDES]
    if isinstance(inner, dict):
        found += [("input.", key) for key in inner.keys() - ChatExample.model_fields.keys()]
    return sorted(before + _shown(key) for before, key in found)


def faults_of(error: ValidationError, root: type[BaseModel]) -> Iterator[Fault]:
    """The faults of a ``ValidationError`` of the type ``root``, with their paths."""
    for found in error.errors(include_url=False, include_input=False, include_context=False):
        location = [part if isinstance(part, int) else _shown(part) for part in found["loc"]]
        yield Fault(path_of(location) or None, *_worded(found["type"], found["msg"], location, root))


def _worded(kind: str, message: str, location: Sequence[int | str], root: type[BaseModel]) -> tuple[str, str]:
    if kind == "missing":
        return "missing", "this field is required"
    if kind == "extra_forbidden":
        return "unknown_key", unknown_key(str(location[-1]), known_keys(root, location[:-1]))
    text = message[:1].lower() + message[1:]
    return (kind if kind in _OWN else "wrong_value"), text


#: Kinds of faults that have their own names: those above, and the rules of ``train.dataset.rows``.
_OWN = frozenset(
    {
        "missing_text",
        "wrong_content",
        "bad_message",
        "missing_content",
        "missing_call_id",
        "empty",
        "no_answer",
        "bad_roles",
        "bad_tool_calls",
        "message_size",
        "row_size",
    }
)


def _shown(key: str) -> str:
    return key if _NAME.fullmatch(key) else "(a key)"
