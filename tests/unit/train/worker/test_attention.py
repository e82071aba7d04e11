"""Attention apart: sequences of one row learn what they learn when they are padded, and none sees another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from train.dataset.formats import IGNORED
from train.worker.attention import APART, keep_apart
from train.worker.batches import Batches

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
LENGTHS = (7, 1, 23, 2)


def tiny(kind: Any, **more: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(kind(**SHAPE, **more), attn_implementation="sdpa")
    model.config.use_cache = False
    return model


def rows() -> list[dict[str, Any]]:
    """Sequences of a token to the longest, of which the first tokens are no answer."""
    made = []
    for number, length in enumerate(LENGTHS):
        tokens = [(5 * number + 3 * place) % 60 + 2 for place in range(length)]
        made.append({"input_ids": tokens, "labels": [IGNORED, *tokens[1:]], "seq_lengths": [length]})
    return made


def learned(model: Any, batch: dict[str, Any]) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return float(loss), [weight.grad.clone() for weight in model.parameters()]


@pytest.mark.parametrize("kind", [LlamaConfig, Qwen2Config, Qwen3Config])
def test_sequences_of_a_row_learn_what_they_learn_padded(kind: Any) -> None:
    model = tiny(kind)
    padded, slopes = learned(model, Batches(0, joined=False)(rows()))
    assert keep_apart(model)
    apart, joined_slopes = learned(model, Batches(0, joined=True)(rows()))
    assert apart == pytest.approx(padded, rel=1e-5)
    for found, wanted in zip(joined_slopes, slopes, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_no_sequence_of_a_row_sees_another() -> None:
    model = tiny(LlamaConfig)
    assert keep_apart(model)
    first, second = rows(), rows()
    second[0]["input_ids"] = [token + 1 for token in second[0]["input_ids"]]
    with torch.no_grad():
        before, after = (model(**Batches(0, joined=True)(some)).logits[0] for some in (first, second))
    assert not torch.equal(before[: LENGTHS[0]], after[: LENGTHS[0]])
    assert torch.equal(before[LENGTHS[0] :], after[LENGTHS[0] :])


def test_a_model_with_adapters_on_it_is_kept_apart_too() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny(LlamaConfig), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    assert keep_apart(model)
    assert model.get_base_model().config._attn_implementation == APART


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (Qwen2Config, {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        (MistralConfig, {}),
        (GemmaConfig, {}),
    ],
)
def test_models_whose_attention_is_another_stay_as_they_are(kind: Any, more: dict[str, Any]) -> None:
    model = tiny(kind, **more)
    assert not keep_apart(model)
    assert model.config._attn_implementation == "sdpa"


def test_on_a_gpu_attention_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not keep_apart(tiny(LlamaConfig))
