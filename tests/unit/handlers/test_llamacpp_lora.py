"""Adapters for a base that is only described: renamed, reordered, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serve.adapters.errors import BadAdapter
from serve.adapters.peft import LoraModule
from serve.handlers.llamacpp.lora import BaseModel, convert, reordered

SHAPES = {
    "token_embd.weight": (8, 100),
    "output.weight": (8, 100),
    "blk.0.attn_q.weight": (8, 16),
    "blk.0.attn_k.weight": (8, 8),
    "blk.0.ffn_down.weight": (12, 8),
}


def base(architecture: str = "qwen2", **shapes: tuple[int, int] | None) -> BaseModel:
    """A described base; ``shapes`` override some, with ``_`` for the dot before ``weight``."""
    found = BaseModel(Path("/none"), architecture, blocks=1, heads=2, kv_heads=1)
    changed = {name.replace("_weight", ".weight"): shape for name, shape in shapes.items()}
    found.__dict__["shapes"] = {name: shape for name, shape in {**SHAPES, **changed}.items() if shape}
    return found


def module(name: str, inputs: int, outputs: int, *, scale: float = 2.0, embedding: bool = False) -> LoraModule:
    random = np.random.default_rng(0)
    a = random.normal(size=(2, inputs)).astype(np.float32)
    b = random.normal(size=(outputs, 2)).astype(np.float32)
    return LoraModule(name, a, b, scale, embedding)


Q = module("model.layers.0.self_attn.q_proj", 8, 16)


def test_modules_are_renamed_and_scaled() -> None:
    found = convert([Q], base())
    assert set(found) == {"blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b"}
    assert np.array_equal(found["blk.0.attn_q.weight.lora_a"], Q.a)
    assert np.array_equal(found["blk.0.attn_q.weight.lora_b"], Q.b * 2)


def test_rows_of_q_and_k_are_reordered_for_llama_only() -> None:
    k = module("model.layers.0.self_attn.k_proj", 8, 8)
    found = convert([Q, k], base("llama"))
    # Two heads of 8 rows: the first halves and the second halves of each interleave.
    order = [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert np.array_equal(found["blk.0.attn_q.weight.lora_b"], Q.b[order] * 2)
    assert np.array_equal(found["blk.0.attn_k.weight.lora_b"], k.b[order[:8]] * 2)
    assert np.array_equal(convert([k], base("qwen3"))["blk.0.attn_k.weight.lora_b"], k.b * 2)


def test_reordering_keeps_every_row() -> None:
    rows = np.arange(24, dtype=np.float32).reshape(12, 2)
    assert sorted(reordered(rows, 3)[:, 0]) == sorted(rows[:, 0])


def test_an_embedding_is_looked_up_by_row() -> None:
    wanted = module("model.embed_tokens", 100, 8, embedding=True)
    found = convert([wanted], base())
    assert np.array_equal(found["token_embd.weight.lora_a"], wanted.a.T)
    assert found["token_embd.weight.lora_b"].shape == (8, 2)


@pytest.mark.parametrize(
    ("modules", "described", "reason"),
    [
        ([Q], base("gemma9"), "architecture 'gemma9'"),
        ([module("model.layers.7.self_attn.q_proj", 8, 16)], base(), "no module"),
        ([module("model.layers.0.self_attn.v_proj", 8, 8)], base(), "no module"),
        ([module("model.surprise", 8, 8)], base(), "no module"),
        ([module("model.layers.0.self_attn.q_proj", 8, 17)], base(), "another base"),
        ([module("model.layers.0.self_attn.q_proj", 9, 16)], base(), "another base"),
        ([module("model.layers.0.mlp.down_proj", 8, 12)], base(), "another base"),
        ([Q, module("transformer.blocks.0.q_proj", 8, 16)], base(), "is there twice|no module"),
        ([module("model.embed_tokens", 100, 8, embedding=True)], base(output_weight=None), "also the model's output"),
        ([module("lm_head", 8, 100)], base(output_weight=None), "no module"),
        ([module("model.embed_tokens", 8, 100)], base(), "as what it is not"),
        ([module("lm_head", 8, 100, embedding=True)], base(), "as what it is not"),
        ([module("model.layers.0.self_attn.q_proj", 8, 16, scale=3e38)], base(), "range of floats"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(
    modules: list[LoraModule], described: BaseModel, reason: str
) -> None:
    with pytest.raises(BadAdapter, match=reason):
        convert(modules, described)
