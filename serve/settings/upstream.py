"""The ``engine`` block of handler ``upstream``: an OpenAI-compatible server that is a member of the group."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from serve.protocol.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from serve.settings.base import Settings

Positive = Annotated[float, Field(gt=0)]
Parameter = Literal[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "seed",
    "stop",
]

#: OpenAI's own; llama.cpp, vLLM and others know more.
OPENAI_PARAMETERS: list[Parameter] = [
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "seed",
    "stop",
]

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: What HTTP and this program set themselves, and what would hold a secret.
_OWN_HEADERS = {
    "accept",
    "accept-encoding",
    "api-key",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
}
_OWN_FIELDS = (
    ChatRequest.model_fields.keys() | CompletionRequest.model_fields.keys() | EmbeddingRequest.model_fields.keys()
) - {"translation_options"}  # A translator's default, where a request brings none.


class UpstreamCapabilities(Settings):
    """What the model over there can do; nothing of it is asked or guessed.

    Attributes:
        context: most tokens of prompt and answer together.
        dimensions: length of an embedding.
    """

    chat: bool = True
    completion: bool = False
    embeddings: bool = False
    tools: bool = False
    structured_output: bool = False
    vision: bool = False
    reasoning: bool = False
    logprobs: bool = False
    context: Annotated[int, Field(ge=1)] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


class UpstreamTimeouts(Settings):
    """How long to wait for the server, in seconds.

    Attributes:
        connect: for a connection, TLS included.
        first_byte: for the first byte of an answer.
        between_bytes: for the next byte of an answer that has begun.
        total: for a whole answer, retries included.
    """

    connect: Positive = 5.0
    first_byte: Positive = 120.0
    between_bytes: Positive = 60.0
    total: Positive = 600.0


class UpstreamRetries(Settings):
    """How a request that failed before the first byte of its answer is sent again.

    Attributes:
        count: how often; 0 means never.
        backoff: longest pause before the first retry, in seconds; it doubles with each. The pause is drawn between
            half of that and all of it.
        longest: longest pause, also where the server names one (``Retry-After``): if it wants more, the request is
            not sent again.
    """

    count: Annotated[int, Field(ge=0, le=10)] = 2
    backoff: Positive = 0.5
    longest: Positive = 8.0


class UpstreamBreaker(Settings):
    """When to stop asking a server that does not answer.

    Attributes:
        failures: failures in a row after which requests are refused at once.
        open_seconds: how long; then one request is let through, and its end decides.
    """

    failures: Annotated[int, Field(ge=1)] = 5
    open_seconds: Positive = 30.0


class UpstreamEngine(Settings):
    """A server that speaks OpenAI's API.

    Attributes:
        base_url: what ``/chat/completions`` is appended to.
        model: the model's name over there.
        key_env: environment variable with the key; read when a replica starts.
        key_file: file with the key; read again whenever it changes.
        capabilities: what the model can do.
        parameters: sampling parameters that the server takes.
        max_tokens_field: what the server calls a chat's token limit.
        stream: ask for streams; without, an answer comes whole.
        stream_usage: ask for token counts in streams.
        inputs_per_call: most texts in one call for embeddings.
        headers: headers more for each request; no secrets.
        body: fields more for each request's body, such as ``translation_options``.
        timeouts, retries, breaker: what happens when the server does not answer.
        max_connections: requests at once.
        max_answer_bytes: largest answer.
        tls_verify: check the server's certificate.
        ca_file: certificates to check it against, in place of the system's.
        proxy: http address of a proxy; the environment's are not used.
    """

    base_url: str
    model: Annotated[str, Field(min_length=1)]
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    key_file: Annotated[str, Field(pattern=r"^/")] | None = None
    capabilities: UpstreamCapabilities = UpstreamCapabilities()
    parameters: list[Parameter] = OPENAI_PARAMETERS
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream: bool = True
    stream_usage: bool = True
    inputs_per_call: Annotated[int, Field(ge=1, le=2048)] = 2048
    headers: dict[str, str] = {}
    body: dict[str, Any] = {}
    timeouts: UpstreamTimeouts = UpstreamTimeouts()
    retries: UpstreamRetries = UpstreamRetries()
    breaker: UpstreamBreaker = UpstreamBreaker()
    max_connections: Annotated[int, Field(ge=1)] = 64
    max_answer_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    tls_verify: bool = True
    ca_file: Annotated[str, Field(pattern=r"^/")] | None = None
    proxy: str | None = None

    @field_validator("base_url", "proxy")
    @classmethod
    def _is_a_plain_address(cls, address: str | None) -> str | None:
        if address is None:
            return None
        try:
            parts = urlsplit(address)
            valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            valid = False
        if not valid or any(character <= " " for character in address):
            raise ValueError("must be an http or https address")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not hold a user or a password; use key_env or key_file")
        if parts.query or parts.fragment:
            raise ValueError("must end with its path, without ? or #")
        return address.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _are_not_ours(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER.fullmatch(name) or not value.isprintable() or not value.isascii():
                raise ValueError(f"{name!r} and its value must be printable ASCII that HTTP allows")
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"{name!r} is set by the program; keys are named by key_env or key_file")
        return headers

    @field_validator("body")
    @classmethod
    def _has_fields_of_the_server(cls, body: dict[str, Any]) -> dict[str, Any]:
        if ours := sorted(body.keys() & _OWN_FIELDS):
            raise ValueError(f"{', '.join(ours)} comes from the request or from user_config.sampling")
        return body

    @model_validator(mode="after")
    def _has_one_key(self) -> UpstreamEngine:
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("name a key by key_env or by key_file, not by both")
        if self.ca_file is not None and not self.tls_verify:
            raise ValueError("ca_file has no effect with tls_verify: false")
        return self
