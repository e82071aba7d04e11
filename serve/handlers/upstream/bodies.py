"""What is sent: the client's request as it was validated, under the other server's name for the model.

Left out are ``store`` and ``metadata``, which are for this group's own database. What the server is not said to
take (``parameters`` and ``capabilities`` of the settings) is an error where the request has it, and left out where
it would come from the sampling defaults.
"""

from __future__ import annotations

from typing import Any, get_args

from serve.errors import InvalidRequest
from serve.protocol.requests import ChatRequest, CompletionRequest
from serve.protocol.sampling import Sampling
from serve.settings.upstream import Parameter, UpstreamEngine

Json = dict[str, Any]

#: Set anew below, or this group's own affair.
_NOT_PASSED = {"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "store", "metadata"}
_PARAMETERS: tuple[Parameter, ...] = get_args(Parameter)


def chat_body(request: ChatRequest, sampling: Sampling, engine: UpstreamEngine) -> Json:
    """The body of ``/chat/completions``.

    Raises:
        InvalidRequest: the request needs what the server is not said to have.
    """
    can = engine.capabilities
    _refuse(request.tools and not can.tools, "tools", "tools")
    _refuse(any(message.images() for message in request.messages) and not can.vision, "pictures", "messages")
    structured = request.response_format is not None and request.response_format.type != "text"
    _refuse(structured and not can.structured_output, "structured output", "response_format")
    _refuse(request.logprobs and not can.logprobs, "logprobs", "logprobs")
    body = _passed(request)
    if not can.reasoning:
        body.pop("reasoning_effort", None)
    if not request.tools:
        # Harmless here, and an error over there.
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            body.pop(name, None)
    _with_types(body)
    if sampling.max_tokens is not None:
        body[engine.max_tokens_field] = sampling.max_tokens
    return _finished(body, request, sampling, engine)


def completion_body(request: CompletionRequest, sampling: Sampling, engine: UpstreamEngine) -> Json:
    """The body of ``/completions``. Raises as ``chat_body`` does."""
    _refuse(request.logprobs is not None and not engine.capabilities.logprobs, "logprobs", "logprobs")
    body = _passed(request)
    body["prompt"] = request.text
    body["max_tokens"] = sampling.max_tokens
    return _finished(body, request, sampling, engine)


def _passed(request: ChatRequest | CompletionRequest) -> Json:
    """What the client has set, as it has set it."""
    return request.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={*_NOT_PASSED, *_PARAMETERS})


def _finished(
    body: Json, request: ChatRequest | CompletionRequest, sampling: Sampling, engine: UpstreamEngine
) -> Json:
    for name in _PARAMETERS:
        if name in engine.parameters:
            value = getattr(sampling, name)
            if value is not None and value not in ({}, ()):
                body[name] = value
        else:
            _refuse(getattr(request, name) is not None, name, name)
    if "logit_bias" in body:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if engine.stream:
        body["stream"] = True
        if engine.stream_usage:
            body["stream_options"] = {"include_usage": True}
    # Only ``translation_options`` can be in both; the request's own count.
    return {"model": engine.model, **engine.body, **body}


def _with_types(body: Json) -> None:
    """``type`` where a client has left it out; OpenAI wants it."""
    calls = [call for message in body["messages"] for call in message.get("tool_calls") or ()]
    choice = body.get("tool_choice")
    for one in [*(body.get("tools") or ()), *calls, *([choice] if isinstance(choice, dict) else ())]:
        one.setdefault("type", "function")


def _refuse(condition: object, what: str, param: str) -> None:
    if condition:
        raise InvalidRequest(f"This model does not take {what}.", param=param)
