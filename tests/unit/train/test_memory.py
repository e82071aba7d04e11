"""The estimate of a worker's memory, against figures that others have published, and by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.group import ROOT
from train.finetune.recipe import LINEAR_LAYERS, Recipe, load_recipe
from train.memory import (
    LOGITS_BYTES,
    Shape,
    evaluation_bytes,
    kept_bytes,
    logits_bytes,
    trained_bytes,
    weights_bytes,
    worker_bytes,
)

GB = 10**9
QWEN3_4B = Shape(layers=36, hidden=2560, queries=4096, keys=1024, inner=9728, vocabulary=151936)
LLAMA_8B = Shape(layers=32, hidden=4096, queries=4096, keys=1024, inner=14336, vocabulary=128256, tied=False)
LLAMA_70B = Shape(layers=80, hidden=8192, queries=8192, keys=1024, inner=28672, vocabulary=128256, tied=False)
QWEN3_14B = Shape(layers=40, hidden=5120, queries=5120, keys=1024, inner=17408, vocabulary=151936, tied=False)


def parsed(method: str, *, gpus: int = 1, **changes: Any) -> Recipe:
    base = {"model": {"id": "m", "base": "/b"}, "data": {"train": ["/a"]}, "schedule": {"batch_size": 1}}
    return Recipe.model_validate({**base, "method": method, "resources": {"gpus": gpus}, **changes})


@pytest.mark.parametrize(
    ("shape", "weights", "rank", "adapter"),
    [
        # The models' cards, norms apart; what Unsloth's notebooks say that they train.
        (LLAMA_8B, 8_030_261_248, 16, 41_943_040),
        (LLAMA_70B, 70_553_706_496, 16, 207_093_760),
        (QWEN3_14B, 14_768_307_200, 32, 128_450_560),
    ],
)
def test_shapes_have_the_weights_that_are_published(shape: Shape, weights: int, rank: int, adapter: int) -> None:
    assert shape.parameters == pytest.approx(weights, rel=1e-4)
    assert shape.adapter(rank, list(LINEAR_LAYERS)) == adapter


def test_all_weights_take_16_bytes_each_with_all_that_training_adds() -> None:
    # "A 1.5B parameter model, GPT-2, requires at least 24 GB", and 7.5B 120 GB: https://arxiv.org/abs/1910.02054.
    for count, published in ((1.5e9, 24 * GB), (7.5e9, 120 * GB)):
        # All in the embeddings, so that there are exactly so many.
        shape = Shape(layers=0, hidden=1000, queries=0, keys=0, inner=0, vocabulary=round(count / 1000))
        full = parsed("full")
        assert weights_bytes(full, shape) + trained_bytes(full, shape) == published


def test_checkpointing_keeps_what_goes_into_each_layer() -> None:
    # 2 s b h L bytes: https://arxiv.org/abs/2205.05198. One layer is computed again, which has to be kept meanwhile.
    tokens = 2048
    kept = kept_bytes(parsed("lora"), LLAMA_8B, tokens)
    one_layer = tokens * (6 * 4096 + 2 * (4096 + 1024) + 4 * 14336) * 2
    assert kept == 2 * tokens * 4096 * 32 + one_layer
    assert kept_bytes(parsed("lora", engine="peft"), LLAMA_8B, tokens) == 32 * one_layer
    # PEFT checkpoints what it trains quantized, and on processors nobody does.
    assert kept_bytes(parsed("qlora", engine="peft"), LLAMA_8B, tokens) == kept
    assert kept_bytes(parsed("lora", gpus=0), LLAMA_8B, tokens) == 32 * one_layer * 2


def test_quantized_weights_take_4_127_bits_and_embeddings_stay_as_they_are() -> None:
    # https://arxiv.org/abs/2305.14314, with double quantization.
    embeddings = 2 * 128256 * 4096
    linear = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert weights_bytes(parsed("qlora"), LLAMA_8B) == pytest.approx(linear * 4.127 / 8 + embeddings * 2)


@pytest.mark.parametrize(
    ("shape", "method", "published"),
    [
        (LLAMA_8B, "qlora", 6),
        (QWEN3_14B, "qlora", 8.5),
        (LLAMA_70B, "qlora", 41),
        (LLAMA_8B, "lora", 22),
        (QWEN3_14B, "lora", 33),
        (LLAMA_70B, "lora", 164),
    ],
)
def test_a_worker_takes_about_what_unsloth_says_that_it_does(shape: Shape, method: str, published: float) -> None:
    # https://unsloth.ai/docs/get-started/fine-tuning-for-beginners/unsloth-requirements: "the absolute minimum", GB.
    estimate = worker_bytes(parsed(method, max_length=512), shape, 512) / GB
    assert 0.85 * published < estimate < 1.6 * published


def test_an_adapter_takes_its_weights_gradients_and_moments() -> None:
    adapter = 41_943_040
    assert trained_bytes(parsed("lora"), LLAMA_8B) == adapter * 16
    # AdamW in 8 bits.
    assert trained_bytes(parsed("qlora"), LLAMA_8B) == adapter * 10


@pytest.mark.parametrize(
    ("gpus", "precision", "weights"),
    [
        (0, "auto", 4),
        (0, "bfloat16", 4),
        (1, "auto", 2),
        (1, "float32", 4),
        (1, "float16", 2),
    ],
)
def test_weights_are_in_the_type_that_the_worker_loads_them_in(gpus: int, precision: str, weights: int) -> None:
    found = weights_bytes(parsed("lora", gpus=gpus, precision=precision), LLAMA_8B)
    assert found == LLAMA_8B.parameters * weights


def test_logits_are_whole_but_where_unsloth_makes_them_by_parts() -> None:
    whole = 4096 * 128256 * 12
    assert logits_bytes(parsed("lora", engine="peft"), LLAMA_8B, 4096) == whole
    assert logits_bytes(parsed("lora", gpus=0), LLAMA_8B, 4096) == whole
    assert logits_bytes(parsed("lora", objective="dpo"), LLAMA_8B, 4096) == whole
    assert logits_bytes(parsed("lora"), LLAMA_8B, 4096) == 2**30
    assert logits_bytes(parsed("lora"), LLAMA_8B, 1) == 128256 * 12


@pytest.mark.parametrize(
    ("recipe", "shape", "memory"),
    [("qwen3-14b", QWEN3_14B, 24), ("qwen3-4b", QWEN3_4B, 12)],
)
def test_what_a_recipe_is_trained_on_can_evaluate_it(recipe: str, shape: Shape, memory: int) -> None:
    found = load_recipe(str(ROOT / f"configs/train/{recipe}.yaml"), ["data.train=[a.jsonl]"])
    # What the evaluation's settings have by default, and a tenth that is never free.
    assert evaluation_bytes(found, shape, 16, 2048) < 0.9 * memory * 2**30


def test_an_evaluation_holds_the_weights_as_they_are_trained() -> None:
    quantized, halves = (evaluation_bytes(parsed(method), QWEN3_14B, 16, 512) for method in ("qlora", "lora"))
    weights = weights_bytes(parsed("lora"), QWEN3_14B) - weights_bytes(parsed("qlora"), QWEN3_14B)
    assert halves - quantized == pytest.approx(weights, rel=1e-6)
    assert halves > 28 * GB > 24 * GB > quantized


def test_more_sequences_at_once_take_more_only_up_to_a_bound() -> None:
    few, some, many, more = (evaluation_bytes(parsed("lora"), LLAMA_8B, size, 256) for size in (1, 8, 64, 512))
    assert few < some < many == more
    # A sequence that is longer than that goes alone.
    assert evaluation_bytes(parsed("lora", max_length=32768), LLAMA_8B, 1) > more + 4 * LOGITS_BYTES
