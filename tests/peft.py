"""PEFT adapters for tests: random ones by numpy alone, and real ones by torch and PEFT."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Floats = NDArray[np.float32]

#: Seeds of random adapters of which each token is at least 0.8 nats likelier than the next best; tokens of other
#: streams in a batch move that by up to 0.2.
SURE = (36, 59, 43)

#: Inputs and outputs of the linear modules of a block of SmolLM2-135M.
SMOLLM2 = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (576, 192),
    "self_attn.v_proj": (576, 192),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (576, 1536),
    "mlp.up_proj": (576, 1536),
    "mlp.down_proj": (1536, 576),
}


def smollm2_modules(blocks: Iterable[int] = range(30)) -> dict[str, tuple[int, int]]:
    """Every linear module of some blocks of SmolLM2-135M, with its inputs and outputs."""
    return {f"model.layers.{block}.{name}": size for block in blocks for name, size in SMOLLM2.items()}


def tensors(
    modules: Mapping[str, tuple[int, int]], *, rank: int = 4, seed: int = 0, size: float = 0.02
) -> dict[str, Floats]:
    """Random matrices for some modules, named as PEFT names them."""
    random = np.random.default_rng(seed)
    found: dict[str, Floats] = {}
    for name, (inputs, outputs) in modules.items():
        prefix = f"base_model.model.{name}"
        found[f"{prefix}.lora_A.weight"] = random.normal(0, size, (rank, inputs)).astype(np.float32)
        found[f"{prefix}.lora_B.weight"] = random.normal(0, size, (outputs, rank)).astype(np.float32)
    return found


def save(folder: Path, weights: Mapping[str, NDArray[Any]], **config: Any) -> Path:
    """Write a PEFT folder; ``config`` overrides its usual keys."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), folder / "adapter_model.safetensors")
    keys = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**keys, **config}), encoding="utf-8")
    return folder


def random_adapter(folder: Path, *, rank: int = 8, seed: int = SURE[0], size: float = 0.07, **config: Any) -> Path:
    """A random adapter on every linear module of SmolLM2-135M.

    With this rank and size and the seeds of ``SURE`` the model says other things, and is sure enough of its first
    five tokens after "The capital of France is" that what else is in a batch does not change them.
    """
    weights = tensors(smollm2_modules(), rank=rank, seed=seed, size=size)
    return save(folder, weights, **{"r": rank, "lora_alpha": 2 * rank, **config})
