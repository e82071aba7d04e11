"""Every error that GroupQwen answers with, and its one form on the wire: OpenAI's error object.

GroupQwenError
├── InvalidRequest           400
│   └── ContextLengthExceeded
├── Unauthorized             401
├── Forbidden                403
├── NotFound                 404
│   └── ModelNotFound
├── MethodNotAllowed         405
├── Conflict                 409
├── PayloadTooLarge          413
├── RateLimited              429, Retry-After
│   └── QueueFull
├── InternalError            500
├── UpstreamFailed           502
│   └── UpstreamTimeout      504
└── Unavailable              503, Retry-After
    └── ModelStarting

Errors are raised where they are found and become HTTP in one place (``serve.protocol.http``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class GroupQwenError(Exception):
    """An error that a client may see.

    Args:
        message: one sentence for a person; never holds a prompt or a secret.
        param: the request field at fault, as a path (``messages[0].role``).
        code: a machine-readable name, where the class's own does not fit.
        retry_after: seconds after which trying again makes sense.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code
        self.retry_after = retry_after

    def body(self) -> dict[str, dict[str, str | None]]:
        """The error as OpenAI's error object (https://platform.openai.com/docs/guides/error-codes)."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(GroupQwenError):
    """The request cannot be carried out as it is written."""

    status = 400
    type = "invalid_request_error"
    default_code = "invalid_value"


class ContextLengthExceeded(InvalidRequest):
    """The prompt and the tokens asked for do not fit the model's context."""

    default_code = "context_length_exceeded"

    def __init__(self, prompt_tokens: int, context: int, *, param: str = "messages") -> None:
        super().__init__(
            f"This model's context is {context} tokens, but the prompt has {prompt_tokens}"
            " and at least one more is needed for the answer.",
            param=param,
        )


class Unauthorized(GroupQwenError):
    """No API key, or one that is not valid."""

    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class Forbidden(GroupQwenError):
    """The caller is known, or refused by where it calls from, and may not do this."""

    status = 403
    type = "permission_error"
    default_code = "forbidden"


class NotFound(GroupQwenError):
    """There is nothing at this address."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class ModelNotFound(NotFound):
    """No model of the group has the name asked for."""

    default_code = "model_not_found"

    def __init__(self, model: str, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known)) or "none yet"
        super().__init__(f"The model {model!r} does not exist. Models of this group: {names}.", param="model")


class MethodNotAllowed(GroupQwenError):
    """The address exists, but not for this HTTP method; ``allowed`` lists those it takes, for the Allow header."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This address takes {allowed} only.")
        self.allowed = allowed


class Conflict(GroupQwenError):
    """The request contradicts what is already there."""

    status = 409
    type = "invalid_request_error"
    default_code = "conflict"


class PayloadTooLarge(GroupQwenError):
    """The body is larger than the gateway takes."""

    status = 413
    type = "invalid_request_error"
    default_code = "payload_too_large"


class RateLimited(GroupQwenError):
    """The caller's limit is used up for now."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class QueueFull(RateLimited):
    """Every slot of the model is taken and its queue is full."""

    default_code = "queue_full"

    def __init__(self, model: str, *, retry_after: float = 1.0) -> None:
        super().__init__(
            f"The model {model!r} has no free slot and its queue is full; try again shortly.",
            retry_after=retry_after,
        )


class InternalError(GroupQwenError):
    """A fault of the server."""

    default_code = "internal_error"


class UpstreamFailed(GroupQwenError):
    """A server that the answer depends on failed."""

    status = 502
    default_code = "upstream_failed"


class UpstreamTimeout(UpstreamFailed):
    """A server that the answer depends on did not answer in time."""

    status = 504
    default_code = "upstream_timeout"


class Unavailable(GroupQwenError):
    """Nothing can answer right now."""

    status = 503
    type = "service_unavailable"
    default_code = "unavailable"


class ModelStarting(Unavailable):
    """The model exists and is not ready yet."""

    default_code = "model_starting"

    def __init__(self, model: str, *, retry_after: float = 2.0) -> None:
        super().__init__(f"The model {model!r} is starting; try again shortly.", retry_after=retry_after)
