"""How the next token is chosen: a request's wishes over the model's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import Field

from serve.protocol.requests import ChatRequest, CompletionRequest, Penalty, Probability
from serve.settings.base import Settings

T = TypeVar("T")


class SamplingDefaults(Settings):
    """What a model uses where the request is silent; changes live through ``user_config.sampling``."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Probability = 0.95
    top_k: Annotated[int, Field(ge=0)] = 40
    min_p: Probability = 0.05
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """Everything that decides the output besides the prompt; no field is left open but ``seed`` and ``max_tokens``.

    Attributes:
        max_tokens: most tokens for each choice; none means as many as the context holds.
        top_k: 0 means no limit. min_p, top_p: 0 and 1 mean off.
        logit_bias: added to the logits, by token id.
        seed: none means a fresh one for each request; choice ``i`` uses ``seed + i``.
        top_logprobs: none means no logprobs; 0 means those of the chosen tokens only.
    """

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    frequency_penalty: float
    presence_penalty: float
    repetition_penalty: float
    max_tokens: int | None
    logit_bias: dict[int, float]
    seed: int | None
    stop: tuple[str, ...]
    n: int
    top_logprobs: int | None


def resolve(request: ChatRequest | CompletionRequest, defaults: SamplingDefaults) -> Sampling:
    """Fill what ``request`` leaves open from ``defaults``."""

    def pick(wish: T | None, default: T) -> T:
        return default if wish is None else wish

    if isinstance(request, ChatRequest):
        top_logprobs = (request.top_logprobs or 0) if request.logprobs else None
        max_tokens = request.token_limit or defaults.max_tokens
    else:
        top_logprobs = request.logprobs
        max_tokens = request.max_tokens
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return Sampling(
        temperature=pick(request.temperature, defaults.temperature),
        top_p=pick(request.top_p, defaults.top_p),
        top_k=pick(request.top_k, defaults.top_k),
        min_p=pick(request.min_p, defaults.min_p),
        frequency_penalty=pick(request.frequency_penalty, defaults.frequency_penalty),
        presence_penalty=pick(request.presence_penalty, defaults.presence_penalty),
        repetition_penalty=pick(request.repetition_penalty, defaults.repetition_penalty),
        max_tokens=max_tokens,
        logit_bias={int(key): value for key, value in (request.logit_bias or {}).items()},
        seed=request.seed,
        stop=stop,
        n=request.n,
        top_logprobs=top_logprobs,
    )
