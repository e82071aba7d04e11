"""What vLLM's exceptions mean to a client."""

from __future__ import annotations

from jinja2 import TemplateError
from pydantic import ValidationError
from vllm.exceptions import GracefulHTTPError, VLLMClientError, VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError

from serve.errors import GroupQwenError, InvalidRequest, ModelLost, QueueFull

#: ``parameter`` of vLLM's error for a prompt that is too long: in tokens, or already in characters.
_TOO_LONG = frozenset({"input_tokens", "input_text"})

#: Characters of vLLM's own words that an answer repeats; some of its messages hold whole inputs.
_SHOWN = 300


def as_ours(error: Exception, model: str, context: int, param: str) -> GroupQwenError | None:
    """What to answer with for ``error``, or none where it is a fault of the server.

    Args:
        context: most tokens of prompt and answer together.
        param: the request's field that holds the prompt.
    """
    if isinstance(error, EngineDeadError):
        return ModelLost(model)
    if isinstance(error, GracefulHTTPError):
        return QueueFull(model)
    if isinstance(error, VLLMValidationError) and error.parameter in _TOO_LONG:
        return InvalidRequest(
            f"This model's context is {context} tokens, and the prompt is longer.",
            param=param,
            code="context_length_exceeded",
        )
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return InvalidRequest(f"The engine does not take this: {first['msg']}.")
    if isinstance(error, TemplateError):
        return InvalidRequest(f"The model's chat template refuses these messages: {error}", param=param)
    # vLLM raises plain ValueErrors too for what it finds wrong with a request.
    if isinstance(error, VLLMClientError | ValueError):
        said = str(error.args[0] if error.args else error).partition("\n")[0]
        return InvalidRequest(f"The engine does not take this: {said[:_SHOWN]}")
    return None
