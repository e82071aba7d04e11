"""A checked request as vLLM's own chat request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve.errors import InvalidRequest
from serve.protocol.requests import ChatRequest, ImagePart, JsonSchemaFormat, Message, TextFormat, Tool
from serve.protocol.sampling import Sampling
from serve.settings.engines import VllmEngine


def chat_fields(
    request: ChatRequest,
    sampling: Sampling,
    settings: VllmEngine,
    context: int,
    *,
    model: str,
    pictures: Iterator[str],
) -> dict[str, Any]:
    """The fields of vLLM's ``ChatCompletionRequest``.

    Args:
        context: most tokens of prompt and answer together.
        model: the name that vLLM knows the base model or the adapter by.
        pictures: the request's pictures, checked, as data URLs.

    Raises:
        InvalidRequest: it asks for what this model cannot do.
    """
    if request.tools and request.tool_choice != "none" and settings.tool_parser is None:
        raise InvalidRequest("This model was not set up to call tools.", param="tools")
    return {
        "model": model,
        "messages": [_message(message, pictures) for message in request.messages],
        "stream": True,
        # A limit over the context is an error to vLLM and none to us: the answer ends where the context does.
        "max_completion_tokens": min(sampling.max_tokens or context, context),
        **sampling_fields(sampling),
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias.items()} or None,
        "logprobs": sampling.top_logprobs is not None,
        "top_logprobs": sampling.top_logprobs or 0,
        "thinking_token_budget": settings.thinking_budget,
        "reasoning_effort": request.reasoning_effort,
        "chat_template_kwargs": request.chat_template_kwargs,
        **_format(request),
        **_tools(request),
    }


def sampling_fields(sampling: Sampling) -> dict[str, Any]:
    """What chat and text completions share, by names that vLLM's requests and its ``SamplingParams`` both have."""
    temperature, top_k = sampling.temperature, sampling.top_k
    if sampling.n > 1 and temperature == 0:
        # vLLM takes one greedy choice only; the likeliest token of one is the same thing.
        temperature, top_k = 1.0, 1
    return {
        "n": sampling.n,
        "temperature": temperature,
        # vLLM does not take 0, which keeps the likeliest token only.
        "top_p": max(sampling.top_p, 1e-6),
        "top_k": top_k,
        "min_p": sampling.min_p,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
    }


def _message(message: Message, pictures: Iterator[str]) -> dict[str, Any]:
    """A message as vLLM knows it; a developer is the system, and text alone is one string. Each image part becomes
    the next of ``pictures``: what an address leads to is not for the engine to fetch."""
    found: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.text(),
    }
    if message.images():
        found["content"] = [
            {"type": "image_url", "image_url": {"url": next(pictures)}}
            if isinstance(part, ImagePart)
            else {"type": "text", "text": part.text}
            for part in message.content or ()
            if not isinstance(part, str)
        ]
    for name in ("name", "tool_call_id", "reasoning_content"):
        if (value := getattr(message, name)) is not None:
            found[name] = value
    if message.tool_calls:
        found["tool_calls"] = [call.model_dump(exclude={"index"}) for call in message.tool_calls]
    return found


def _format(request: ChatRequest) -> dict[str, Any]:
    wanted = request.response_format
    if wanted is None or isinstance(wanted, TextFormat):
        return {}
    if isinstance(wanted, JsonSchemaFormat):
        # Without a schema any object will do; vLLM asks for one.
        schema = {**wanted.json_schema.model_dump(by_alias=True), "schema": wanted.json_schema.schema_ or {}}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {"response_format": {"type": "json_object"}}


def _strict(tool: Tool) -> dict[str, Any]:
    """A tool whose arguments must follow its schema, which vLLM else asks of the model and does not enforce."""
    found = tool.model_dump(exclude_none=True)
    return {**found, "function": {**found["function"], "strict": True}}


def _tools(request: ChatRequest) -> dict[str, Any]:
    if not request.tools or request.tool_choice == "none":
        return {}
    choice = request.tool_choice
    return {
        "tools": [_strict(tool) for tool in request.tools],
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump() if choice else "auto",
        "parallel_tool_calls": request.parallel_tool_calls is not False,
    }
