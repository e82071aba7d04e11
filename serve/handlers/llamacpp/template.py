"""A model's own chat template: messages in, prompt text out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from serve.errors import InvalidRequest
from serve.handlers.llamacpp.reasoning import OPEN as THINK
from serve.handlers.llamacpp.tools import OPEN as TOOL_CALL
from serve.protocol.requests import ChatRequest, ImagePart, Message, Tool, ToolCall

#: What a template is always given; ``chat_template_kwargs`` cannot stand in for it.
_FIXED = frozenset({"messages", "tools", "bos_token", "eos_token", "add_generation_prompt"})

#: What the Python under a template raises on messages that it was not written for.
_TEMPLATE_FAULTS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)


class ChatTemplate:
    """A Jinja template as Hugging Face's transformers runs it
    (https://huggingface.co/docs/transformers/chat_templating): sandboxed, with the same extras.

    Attributes:
        has_tools: whether it tells the model about tools and has it call them in Hermes' form.
        reasons: whether its model reasons in ``<think>`` marks.

    Raises:
        RuntimeError: it is no Jinja template.
    """

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_raise, strftime_now=_now)
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as failure:
            raise RuntimeError(f"The model's chat template is broken: {failure}") from failure
        self._tokens = {"bos_token": bos, "eos_token": eos}
        # Templates of other families name tools too, but have their models call them in forms that are not read here.
        self.has_tools = "tools" in source and TOOL_CALL in source
        self.reasons = THINK in source

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        extra: Mapping[str, Any] | None = None,
        mark: str | None = None,
    ) -> str:
        """The prompt, up to where the assistant speaks.

        Args:
            extra: further variables for the template.
            mark: what stands for each picture; none where the model sees none.

        Raises:
            InvalidRequest: the messages hold what the model cannot take, or the template refuses them.
        """
        if taken := _FIXED & set(extra or {}):
            raise InvalidRequest(
                f"The template's variable {min(taken)!r} is not for a request to set.",
                param="chat_template_kwargs",
            )
        variables = {
            **(extra or {}),
            **self._tokens,
            "messages": [_to_dict(place, message, mark) for place, message in enumerate(messages)],
            "tools": [_tool_to_dict(tool) for tool in tools] or None,
            "add_generation_prompt": True,
        }
        try:
            return self._template.render(variables)
        except _TEMPLATE_FAULTS as failure:
            raise InvalidRequest(
                f"The model's chat template refuses these messages: {failure}", param="messages"
            ) from failure


def template_variables(request: ChatRequest) -> dict[str, Any]:
    """What a request sets for the template: its own variables, and no thinking when it wants no reasoning."""
    quiet = {"enable_thinking": False} if request.reasoning_effort == "none" else {}
    return {**(request.chat_template_kwargs or {}), **quiet}


def _to_dict(place: int, message: Message, mark: str | None) -> dict[str, Any]:
    """A message as templates know it: content is one text, a developer is the system, arguments are an object."""
    found: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": _content(place, message, mark),
    }
    for name in ("name", "tool_call_id", "reasoning_content"):
        if (value := getattr(message, name)) is not None:
            found[name] = value
    if message.tool_calls:
        found["tool_calls"] = [
            _call_to_dict(call, f"messages[{place}].tool_calls[{number}]")
            for number, call in enumerate(message.tool_calls)
        ]
    return found


def _content(place: int, message: Message, mark: str | None) -> str:
    """A message's text with ``mark`` where its pictures are."""
    if not isinstance(message.content, list):
        return message.text()
    pieces = []
    for part, content in enumerate(message.content):
        if isinstance(content, ImagePart) and mark is None:
            raise InvalidRequest("This model cannot see images.", param=f"messages[{place}].content[{part}]")
        pieces.append(str(mark) if isinstance(content, ImagePart) else content.text)
    return "".join(pieces)


def _call_to_dict(call: ToolCall, path: str) -> dict[str, Any]:
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError) as failure:
        raise InvalidRequest(
            "The arguments of a tool call are JSON text.", param=f"{path}.function.arguments"
        ) from failure
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def _tool_to_dict(tool: Tool) -> dict[str, Any]:
    return {"type": "function", "function": tool.function.model_dump(exclude_none=True, exclude={"strict"})}


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As in transformers: Jinja's own filter, without its escaping for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    # A model wants to know the day where its machine is.
    return datetime.now().astimezone().strftime(form)
