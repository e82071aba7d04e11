"""A request's wishes over a model's defaults."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from serve.protocol.requests import ChatRequest, CompletionRequest
from serve.protocol.sampling import Sampling, SamplingDefaults, resolve

DEFAULTS = SamplingDefaults(temperature=0.3, top_p=0.8, top_k=20, max_tokens=100)


def sampling(**fields: Any) -> Sampling:
    """What a chat request with these fields comes to."""
    request = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "a"}]} | fields)
    return resolve(request, DEFAULTS)


def test_what_a_request_leaves_open_comes_from_the_defaults() -> None:
    found = sampling()
    assert (found.temperature, found.top_p, found.top_k, found.max_tokens) == (0.3, 0.8, 20, 100)
    assert (found.n, found.stop, found.logit_bias, found.seed, found.top_logprobs) == (1, (), {}, None, None)


def test_a_wish_of_zero_is_a_wish() -> None:
    found = sampling(temperature=0, top_k=0, min_p=0, presence_penalty=0)
    assert (found.temperature, found.top_k, found.min_p, found.presence_penalty) == (0, 0, 0, 0)


def test_a_requests_token_limit_goes_before_the_models() -> None:
    assert sampling(max_tokens=500).max_tokens == 500
    assert sampling(max_completion_tokens=7, max_tokens=500).max_tokens == 7


def test_one_stop_text_becomes_a_list_of_one() -> None:
    assert sampling(stop="END").stop == ("END",)
    assert sampling(stop=["a", "b"]).stop == ("a", "b")
    assert sampling(stop=[]).stop == ()


def test_log_probabilities_without_alternatives_are_not_the_same_as_none() -> None:
    assert sampling(logprobs=True).top_logprobs == 0
    assert sampling(logprobs=True, top_logprobs=5).top_logprobs == 5
    assert sampling(logprobs=False).top_logprobs is None


def test_a_bias_is_by_the_number_of_the_token() -> None:
    assert sampling(logit_bias={"7": -100, "42": 1.5}).logit_bias == {7: -100, 42: 1.5}


def test_a_text_completion_has_sixteen_tokens_unless_it_asks_for_another_number() -> None:
    request = CompletionRequest(model="m", prompt="a", logprobs=0)
    assert resolve(request, DEFAULTS).max_tokens == 16
    assert resolve(request, DEFAULTS).top_logprobs == 0


@pytest.mark.parametrize("fields", [{"temperature": 3.0}, {"top_p": 1.5}, {"max_tokens": 0}, {"heat": 1}])
def test_defaults_out_of_bounds_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SamplingDefaults.model_validate(fields)
