"""Every error that GroupQwen answers with, and its one form on the wire: OpenAI's error object.

GroupQwenError
├── InvalidRequest           400
│   ├── ContextLengthExceeded
│   └── InvalidTrainingFile
├── Unauthorized             401
├── Forbidden                403
├── NotFound                 404
│   ├── ModelNotFound
│   ├── AdapterNotFound
│   └── TaskNotFound
├── MethodNotAllowed         405
├── Conflict                 409
├── PayloadTooLarge          413
├── AdapterRefused           424
├── RateLimited              429, Retry-After
│   └── QueueFull
├── InternalError            500
├── UpstreamFailed           502
│   └── UpstreamTimeout      504
│       └── TaskTimeout
├── StorageFull              507
└── Unavailable              503, Retry-After
    ├── ModelStarting
    ├── TaskStarting
    ├── TooManyWaiting
    ├── TooManyPictures
    ├── WaitedTooLong
    ├── ModelResting
    ├── ModelLost
    ├── AdapterLoading
    └── ContentMissing

Errors are raised where they are found and become HTTP in one place (``serve.protocol.http``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar


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

    def body(self) -> dict[str, dict[str, Any]]:
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


class InvalidTrainingFile(InvalidRequest):
    """An uploaded file cannot be learned from.

    Args:
        validation: what was found, as ``train.dataset.validation`` says it; a field of the error object.
    """

    default_code = "invalid_training_file"

    def __init__(self, validation: dict[str, Any]) -> None:
        errors = validation["errors"]
        first = errors["listed"][0]
        place = ", ".join(str(part) for part in (first["line"] and f"line {first['line']}", first["field"]) if part)
        super().__init__(
            f"The file cannot be learned from. Errors: {errors['total']}. The first, {place or 'the whole file'}:"
            f" {first['message']}.",
            param="file",
        )
        self.validation = validation

    def body(self) -> dict[str, dict[str, Any]]:
        """OpenAI's error object with what was found."""
        return {"error": {**super().body()["error"], "validation": self.validation}}


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


class AdapterNotFound(NotFound):
    """The model has no adapter of the name asked for."""

    default_code = "adapter_not_found"

    def __init__(self, model: str, adapter: str, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(
            f"The model {model!r} has no adapter {adapter!r}. Its adapters: {names}.",
            param="model",
        )


class TaskNotFound(NotFound):
    """The group has no application of the task that an address is for."""

    default_code = "task_not_deployed"

    def __init__(self, task: str) -> None:
        super().__init__(
            f"This group has no {task} task. Add an application with `import_path: serve.app:task` and"
            f" `args: {{id: {task}, task: {task}}}` to its config and run `serve deploy`; see docs/{task}.md."
        )


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


class AdapterRefused(GroupQwenError):
    """An adapter does not fit its model; says why.

    424 and not 409, because clients of OpenAI's API send a request that got 409 again by themselves.
    """

    status = 424
    type = "invalid_request_error"
    default_code = "adapter_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(reason, param="model")


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


class StorageFull(GroupQwenError):
    """The disk that files are kept on has no room."""

    status = 507
    default_code = "storage_full"


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


class TaskStarting(Unavailable):
    """The task is deployed and not ready yet."""

    default_code = "task_starting"

    def __init__(self, task: str) -> None:
        super().__init__(f"The {task} task is starting; try again shortly.", retry_after=2)


class TaskTimeout(UpstreamTimeout):
    """The task was at work for longer than it may be."""

    default_code = "task_timeout"

    def __init__(self, task: str, seconds: float) -> None:
        super().__init__(
            f"The {task} task did not answer within {seconds:.0f} s; ask for less at once, or for a stream."
        )


class TooManyWaiting(Unavailable):
    """The model is being brought into memory, and as many requests wait for it as may."""

    default_code = "too_many_waiting"

    def __init__(self, model: str, *, retry_after: float = 5.0) -> None:
        super().__init__(
            f"The model {model!r} is being brought into memory and too many requests wait for it already;"
            " try again shortly.",
            retry_after=retry_after,
        )


class TooManyPictures(Unavailable):
    """The pictures of other requests fill the memory that a replica has for them."""

    default_code = "too_many_pictures"

    def __init__(self, seconds: float, *, retry_after: float = 5.0) -> None:
        super().__init__(
            f"The pictures of other requests left no room for these within {seconds:g} s; try again shortly.",
            retry_after=retry_after,
        )


class WaitedTooLong(Unavailable):
    """The model could not be brought into memory in time."""

    default_code = "wake_timeout"

    def __init__(self, model: str, seconds: float, *, retry_after: float = 10.0) -> None:
        super().__init__(
            f"The model {model!r} was not in memory after {seconds:g} s; try again later.", retry_after=retry_after
        )


class ModelResting(Unavailable):
    """The model is not in memory; it has to be asked to load first."""

    default_code = "model_resting"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model!r} is not in memory now.", retry_after=1)


class ModelLost(Unavailable):
    """The model's engine died. Before the first byte of an answer, the gateway sends the request again."""

    default_code = "model_lost"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model!r} was lost; the group starts it again.", retry_after=2)


class AdapterLoading(Unavailable):
    """The adapter is there and this replica does not have it yet."""

    default_code = "adapter_loading"

    def __init__(self, model: str, adapter: str) -> None:
        super().__init__(f"The adapter '{model}:{adapter}' is being loaded; try again shortly.", retry_after=1)


class ContentMissing(Unavailable):
    """A file is known and its content is not where this replica looks."""

    default_code = "content_missing"

    def __init__(self, id: str) -> None:
        super().__init__(f"The content of the file {id!r} cannot be read here; the server's log says more.")
