"""The type in which a base is held: as in training, on whatever this machine has."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from serve.settings.errors import SettingsError
from tests.finetuning import recipe, tiny_checkpoint
from train.finetune.recipe import Recipe
from train.worker.weights import WeightKind, kind_of, load_base, load_to_ask

QUANTIZED = WeightKind("float32", quantized=True)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "base")


@pytest.fixture
def has_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let torch say that there is a GPU, of which the best type of 16 bits is the given one."""

    def has(best: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: best == "bfloat16")

    return has


def wanted(method: str, precision: str = "auto") -> Recipe:
    return recipe(Path("/b"), Path("/a"), method=method, precision=precision, resources={"gpus": 1})


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_without_a_gpu_weights_are_in_float32(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert kind_of(wanted(method)) == WeightKind("float32")


@pytest.mark.parametrize(
    ("method", "precision", "best", "kind", "name"),
    [
        ("lora", "auto", "bfloat16", WeightKind("bfloat16"), "bfloat16"),
        ("lora", "auto", "float16", WeightKind("float16"), "float16"),
        ("lora", "float32", "bfloat16", WeightKind("float32"), "float32"),
        ("qlora", "auto", "bfloat16", WeightKind("bfloat16", quantized=True), "nf4"),
        ("qlora", "auto", "float16", WeightKind("float16", quantized=True), "nf4"),
        ("qlora", "float16", "bfloat16", WeightKind("float16", quantized=True), "nf4"),
        ("full", "auto", "bfloat16", WeightKind("float32"), "float32"),
        ("full", "bfloat16", "bfloat16", WeightKind("bfloat16"), "bfloat16"),
    ],
)
def test_on_a_gpu_weights_are_as_the_method_trains_them(
    has_gpu: Callable[[str], None], method: str, precision: str, best: str, kind: WeightKind, name: str
) -> None:
    has_gpu(best)
    found = kind_of(wanted(method, precision))
    assert (found, found.name) == (kind, name)


@pytest.mark.parametrize("quantized", [False, True])
def test_the_base_is_loaded_in_4_bits_where_it_is_trained_in_them(
    monkeypatch: pytest.MonkeyPatch, quantized: bool
) -> None:
    loaded: dict[str, Any] = {}
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda base, **how: loaded.update(how))
    load_base(Path("/b"), WeightKind("bfloat16", quantized))
    assert loaded["dtype"] is torch.bfloat16
    assert ("quantization_config" in loaded) == quantized
    if quantized:
        assert loaded["quantization_config"].load_in_4bit
        assert loaded["quantization_config"].bnb_4bit_compute_dtype is torch.bfloat16


def test_what_4_bits_need_and_is_not_there_is_told_in_a_line(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object, **__: object) -> None:
        raise ImportError("Using `bitsandbytes` 4-bit quantization requires it\nand more")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", without)
    with pytest.raises(SettingsError, match=r"scripts/setup\.sh train-gpu installs: Using `bitsandbytes`") as told:
        load_to_ask(base, QUANTIZED)
    assert "\n" not in str(told.value)


def test_layers_are_in_4_bits_and_embeddings_are_not(base: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = load_to_ask(base, QUANTIZED)
    kinds = {name: type(weight).__name__ for name, weight in model.named_parameters()}
    assert kinds["model.layers.0.mlp.up_proj.weight"] == "Params4bit"
    assert kinds["model.embed_tokens.weight"] == kinds["lm_head.weight"] == "Parameter"
    assert not model.training
    assert "bitsandbytes" in sys.modules
