"""How tokens are chosen, against llama.cpp's own passes over the whole vocabulary, with a real model."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from serve.handlers.llamacpp.context import Context
from serve.handlers.llamacpp.library import C, Pointer
from serve.handlers.llamacpp.model import Model
from serve.handlers.llamacpp.sampler import PENALTY_WINDOW, Sampler
from serve.models import local_path
from serve.protocol.requests import CompletionRequest
from serve.protocol.sampling import Sampling, SamplingDefaults, resolve
from serve.settings.engines import LlamaCppEngine
from serve.settings.model import ModelSettings

PROMPT = "One day a child asked the old man, why is the sea salt? He"
STEPS = 100  # More than the penalties look back.


@pytest.fixture(scope="module")
def model(smollm2_settings: ModelSettings) -> Model:
    assert smollm2_settings.weights is not None
    return Model(local_path(smollm2_settings.id, smollm2_settings.weights), LlamaCppEngine())


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    context = Context(model, LlamaCppEngine(context=256, slots=1))
    yield context
    context.close()


def sampling(**asked: Any) -> Sampling:
    request = CompletionRequest.model_validate({"model": "m", "prompt": "", "temperature": 0, **asked})
    return resolve(request, SamplingDefaults())


def whole_chain(model: Model, wanted: Sampling, history: array[int]) -> Pointer:
    """llama.cpp's chain for a choice that leaves nothing to chance."""
    chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
    pairs = [C.llama_logit_bias(token, bias) for token, bias in (wanted.logit_bias or {}).items()]
    biases = (C.llama_logit_bias * len(pairs))(*pairs)
    C.llama_sampler_chain_add(chain, C.llama_sampler_init_logit_bias(model.vocabulary, len(pairs), biases))
    penalties = wanted.repetition_penalty, wanted.frequency_penalty, wanted.presence_penalty
    C.llama_sampler_chain_add(chain, C.llama_sampler_init_penalties(model.vocabulary, PENALTY_WINDOW, *penalties))
    C.llama_sampler_chain_add(chain, C.llama_sampler_init_greedy())
    for token in history:
        C.llama_sampler_accept(chain, token)
    return chain


def decode(context: Context, tokens: array[int], position: int) -> int:
    context.batch.clear()
    row = context.batch.add(0, tokens, 0, len(tokens), output=True, position=position)
    assert context.decode() == 0
    return row


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, id="plain"),
        pytest.param({"repetition_penalty": 1.3}, id="repetition"),
        pytest.param({"repetition_penalty": 0.7}, id="repetition wanted"),
        pytest.param({"frequency_penalty": 1.5, "presence_penalty": -0.5}, id="frequency and presence"),
        pytest.param({"logit_bias": {"260": 8.0, "28": -100}}, id="bias"),
        pytest.param(
            {"logit_bias": {"28": 3.5, "30": 3.5}, "repetition_penalty": 1.1, "presence_penalty": 1}, id="all"
        ),
    ],
)
def test_the_likeliest_token_is_the_one_of_llama_cpps_passes_over_the_whole_vocabulary(
    model: Model, context: Context, asked: dict[str, Any]
) -> None:
    wanted, prompt = sampling(**asked), model.tokenize(PROMPT)
    sampler, chain = Sampler(model, wanted, 1, prompt, None), whole_chain(model, wanted, prompt)
    row, chosen = decode(context, prompt, 0), set()
    for step in range(STEPS):
        before = context.logits(row).copy()
        token = sampler.sample(context, row)
        assert (context.logits(row) == before).all(), "log probabilities are read after it"
        assert token == C.llama_sampler_sample(chain, context.pointer, row), f"step {step}"
        chosen.add(token)
        row = decode(context, array("i", [token]), len(prompt) + step)
    C.llama_sampler_free(chain)
    assert len(chosen) > 1


def test_of_equally_likely_tokens_the_first_is_taken_whether_changed_or_not(model: Model, context: Context) -> None:
    prompt = model.tokenize(PROMPT)
    row = decode(context, prompt, 0)
    logits = context.logits(row)
    logits[[300, 400, 500]] = math.ceil(logits.max()) + 1  # Whole numbers, so that taking some away is exact.
    for bias, expected in (({}, 300), ({"400": 0.0}, 300), ({"300": -1}, 400), ({"200": 0, "500": 1}, 500)):
        assert Sampler(model, sampling(logit_bias=bias), 1, prompt, None).sample(context, row) == expected


def test_a_seed_gives_the_same_choices_and_another_seed_others(model: Model, context: Context) -> None:
    wanted, prompt = sampling(temperature=1.0, repetition_penalty=1.1), model.tokenize(PROMPT)

    def said(seed: int) -> list[int]:
        context.clear()
        sampler, row, tokens = Sampler(model, wanted, seed, prompt, None), decode(context, prompt, 0), []
        for step in range(12):
            tokens.append(sampler.sample(context, row))
            row = decode(context, array("i", tokens[-1:]), len(prompt) + step)
        return tokens

    first = said(7)
    assert said(7) == first
    assert said(8) != first
