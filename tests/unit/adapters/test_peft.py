"""PEFT folders read without trust: what fits is taken, all else is refused with its reason."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from serve.adapters.errors import BadAdapter, BadConfig, BadWeights
from serve.adapters.peft import MAX_RANK, parse_config, parse_weights

MODULE = "model.layers.0.self_attn.q_proj"
A, B = f"base_model.model.{MODULE}.lora_A.weight", f"base_model.model.{MODULE}.lora_B.weight"
GOOD = {A: np.ones((4, 6), np.float32), B: np.ones((8, 4), np.float32)}


def config(**changes: Any) -> bytes:
    keys = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], **changes}
    return json.dumps(keys).encode()


def test_a_config_gives_rank_scale_and_targets() -> None:
    found = parse_config(config(target_modules=["v_proj", "q_proj"]))
    assert (found.rank, found.alpha, found.scale_of(MODULE)) == (4, 8.0, 2.0)
    assert found.target_modules == ("q_proj", "v_proj")


def test_a_rank_stabilized_adapter_is_scaled_by_the_root_of_its_rank() -> None:
    assert parse_config(config(use_rslora=True)).scale_of(MODULE) == 8 / math.sqrt(4)


def test_patterns_name_modules_by_their_ends() -> None:
    found = parse_config(config(rank_pattern={"0.self_attn.q_proj": 2}, alpha_pattern={"^model.layers.1.q": 3}))
    assert (found.rank_of(MODULE), found.scale_of(MODULE)) == (2, 4.0)
    assert (found.rank_of("model.layers.10.self_attn.q_proj"), found.largest_rank) == (4, 4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"task_type": "SEQ_CLS"}, "task_type"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base"),
        ({"r": 0}, r"\br: must be"),
        ({"r": MAX_RANK + 1}, r"\br: must be"),
        ({"r": True}, r"\br: must be"),
        ({"r": "8"}, r"\br: must be"),
        ({"lora_alpha": 0}, "lora_alpha"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"lora_alpha": 1e300}, "lora_alpha"),
        ({"target_modules": []}, "target_modules"),
        ({"rank_pattern": {"q_proj": 10**9}}, "rank_pattern.q_proj"),
        ({"rank_pattern": {"(a+)+$": 4}}, "plain name"),
        ({"alpha_pattern": [1]}, "alpha_pattern"),
    ],
)
def test_what_cannot_be_served_is_refused_by_its_key(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadConfig, match=reason):
        parse_config(config(**changes))


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b'{"a":' * 100_000, b'"' + b"a" * 1000 + b'"'])
def test_a_broken_config_is_refused(content: bytes) -> None:
    with pytest.raises(BadConfig):
        parse_config(content)


def test_weights_give_modules_with_their_scale() -> None:
    [module] = parse_weights(save(GOOD), parse_config(config()))
    assert (module.name, module.scale, module.embedding) == (MODULE, 2.0, False)
    assert (module.a.shape, module.b.shape) == ((4, 6), (8, 4))


def test_halves_and_bfloat16_become_floats_exactly() -> None:
    halves = {A: np.full((4, 6), 0.1, np.float16), B: np.full((8, 4), -3.5, np.float16)}
    [module] = parse_weights(save(halves), parse_config(config()))
    assert module.a.dtype == np.float32 and module.a[0, 0] == np.float32(np.float16(0.1))
    # 1.5 in bfloat16 is the upper half of its float32.
    raw = save({A: np.full((4, 6), 0x3FC0, np.uint16), B: np.full((8, 4), 0xC060, np.uint16)})
    [module] = parse_weights(raw.replace(b'"U16"', b'"BF16"').replace(b" " * 2, b"", 1), parse_config(config()))
    assert (module.a[0, 0], module.b[0, 0]) == (1.5, -3.5)


def test_embeddings_are_told_apart() -> None:
    name = "base_model.model.model.embed_tokens.lora_embedding_"
    weights = {f"{name}A": np.ones((4, 100), np.float32), f"{name}B": np.ones((6, 4), np.float32)}
    [module] = parse_weights(save(weights), parse_config(config()))
    assert module.embedding


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({}, "no LoRA module"),
        ({A: GOOD[A]}, "no lora_B"),
        ({B: GOOD[B]}, "no lora_A"),
        ({**GOOD, A: np.full((4, 6), np.nan, np.float32)}, "not finite"),
        ({**GOOD, B: np.full((8, 4), np.inf, np.float32)}, "not finite"),
        ({**GOOD, A: np.ones((4, 6), np.int8)}, "type I8"),
        ({**GOOD, A: np.ones((4, 6), np.float64)}, "type F64"),
        ({**GOOD, A: np.ones(4, np.float32)}, "matrix is needed"),
        ({**GOOD, A: np.ones((0, 6), np.float32)}, "matrix is needed"),
        ({**GOOD, A: np.ones((3, 6), np.float32)}, "its rank is 4"),
        ({**GOOD, B: np.ones((8, 5), np.float32)}, "its rank is 4"),
        ({**GOOD, "model.norm.weight": np.ones((4, 4), np.float32)}, "no matrix of a LoRA module"),
        ({**GOOD, A.replace("lora_A.weight", "lora_magnitude_vector"): GOOD[A]}, "no matrix of a LoRA module"),
        ({**GOOD, A.replace(MODULE, "../../etc/passwd"): GOOD[A]}, "no matrix of a LoRA module"),
        ({**GOOD, A.replace(MODULE, "x" * 5000): GOOD[A]}, "no matrix of a LoRA module"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadWeights, match=reason):
        parse_weights(save(weights), parse_config(config()))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 40, 200])
def test_weights_cut_short_are_refused(length: int) -> None:
    with pytest.raises(BadWeights, match="no safetensors file"):
        parse_weights(save(GOOD)[:length], parse_config(config()))


def test_a_header_of_hundreds_of_megabytes_is_not_even_read() -> None:
    with pytest.raises(BadWeights, match="header is too large"):
        parse_weights((2**29).to_bytes(8, "little") + b"{", parse_config(config()))


@given(place=st.integers(0, len(save(GOOD)) - 1), value=st.integers(0, 255))
def test_a_byte_changed_anywhere_is_taken_as_numbers_or_refused(place: int, value: int) -> None:
    content = bytearray(save(GOOD))
    content[place] = value
    try:
        [module] = parse_weights(bytes(content), parse_config(config()))
    except BadAdapter:
        return
    assert np.isfinite(module.a).all() and np.isfinite(module.b).all()


@given(content=st.binary(max_size=300))
def test_noise_is_refused(content: bytes) -> None:
    with pytest.raises(BadWeights):
        parse_weights(content, parse_config(config()))
    with pytest.raises(BadConfig):
        parse_config(content)
