"""Which adapters fit a checkpoint: by the heads of their files, with tensors of a few numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from serve.errors import AdapterRefused
from serve.handlers.vllm.adapter import check_adapter, shapes_in

LAYER = "model.layers.0.self_attn.q_proj"
BASE = {f"{LAYER}.weight": (6, 4), "model.layers.0.mlp.up_proj.qweight": (4, 1)}


def adapter(folder: Path, *, rank: Any = 2, **shapes: tuple[int, ...]) -> Path:
    """An adapter with tensors of these shapes, by their names in the first layer."""
    wanted = shapes or {"lora_A": (2, 4), "lora_B": (6, 2)}
    tensors = {f"base_model.model.{LAYER}.{name}.weight": np.zeros(shape) for name, shape in wanted.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}), encoding="utf-8")
    return folder


def test_one_that_fits_is_taken(tmp_path: Path) -> None:
    check_adapter(adapter(tmp_path), BASE, 2)


def test_shapes_are_read_of_every_file(tmp_path: Path) -> None:
    save_file({"a": np.zeros((2, 3))}, tmp_path / "one.safetensors")
    save_file({"b": np.zeros(4)}, tmp_path / "two.safetensors")
    assert shapes_in(tmp_path) == {"a": (2, 3), "b": (4,)}


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"lora_A": (2, 5)}, "made for 5 numbers, and the model has 4"),
        ({"lora_B": (7, 2)}, "made for 7 numbers, and the model has 6"),
        ({"lora_C": (2, 4)}, "no LoRA weight"),
    ],
)
def test_one_of_another_shape_is_refused(tmp_path: Path, shapes: dict[str, Any], said: str) -> None:
    with pytest.raises(AdapterRefused, match=said):
        check_adapter(adapter(tmp_path, **shapes), BASE, 8)


@pytest.mark.parametrize("rank", [3, "many", None])
def test_a_rank_that_is_too_high_or_none_is_refused(tmp_path: Path, rank: Any) -> None:
    with pytest.raises(AdapterRefused, match="rank"):
        check_adapter(adapter(tmp_path, rank=rank), BASE, 2)


def test_a_layer_that_the_model_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterRefused, match=LAYER):
        check_adapter(adapter(tmp_path), {}, 2)


def test_packed_weights_are_left_to_vllm(tmp_path: Path) -> None:
    check_adapter(adapter(tmp_path), {f"{LAYER}.qweight": (4, 1)}, 2)


@pytest.mark.parametrize("broken", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_broken_file_is_no_adapter(tmp_path: Path, broken: str) -> None:
    (adapter(tmp_path) / broken).write_bytes(b"{")
    with pytest.raises(AdapterRefused, match="not an adapter"):
        check_adapter(tmp_path, BASE, 2)


def test_one_with_no_weights_is_refused(tmp_path: Path) -> None:
    (adapter(tmp_path) / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterRefused, match="no weights"):
        check_adapter(tmp_path, BASE, 2)
