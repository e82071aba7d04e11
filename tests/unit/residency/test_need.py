"""What a model is estimated to need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve.handlers.llamacpp import order
from serve.residency.need import PROCESS_BYTES, Need, need_of
from serve.settings.model import ModelSettings
from tests.unit.residency.gguf_files import Value, llama, write_gguf

#: Tokens that idle slots may hold beside the cache, with ``settings()``.
ASIDE = 512


def gguf(tmp_path: Path, header: dict[str, Value], **engine: Any) -> Need:
    """The need of a model of 1000 bytes with this header."""
    return need_of(settings(**engine), write_gguf(tmp_path / "m.gguf", header))


def settings(**engine: Any) -> ModelSettings:
    weights = {"file": "m.gguf", "bytes": 1000, "sha256": "0" * 64, "sources": [{"path": "/m.gguf"}]}
    engine = {"context": 1024, "slots": 2} | engine
    return ModelSettings.model_validate({"id": "m", "handler": "llamacpp", "weights": weights, "engine": engine})


def test_the_cache_is_one_pool_of_all_sequences_and_what_idle_ones_hold_beside_it(tmp_path: Path) -> None:
    # tokens x 4 layers x 2 heads x (16 + 16) x 2 bytes
    assert gguf(tmp_path, llama()).cache == (2048 + ASIDE) * 4 * 2 * 32 * 2
    assert gguf(tmp_path, llama(), cache_prompts=False).cache == 2048 * 4 * 2 * 32 * 2
    assert gguf(tmp_path, llama(), context=2048, slots=1).cache == 2048 * 4 * 2 * 32 * 2


def test_models_with_windows_hold_nothing_beside_the_cache(tmp_path: Path) -> None:
    assert gguf(tmp_path, llama(attention__sliding_window=128)).cache == 2048 * 4 * 2 * 32 * 2


@pytest.mark.parametrize(
    ("amx", "tied", "engine", "held"),
    [
        (False, True, {}, 1000),
        (True, True, {}, 1320),
        (True, False, {}, 1000),
        (True, True, {"gpu_layers": 2}, 500),
    ],
)
def test_a_table_that_is_the_output_too_is_there_twice_where_weights_get_another_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, amx: bool, tied: bool, engine: dict[str, Any], held: int
) -> None:
    monkeypatch.setattr(order, "_has_amx", lambda: amx)
    tensors = {"token_embd.weight": 320, "blk.0.attn_q.weight": 320} | ({} if tied else {"output.weight": 320})
    file = write_gguf(tmp_path / "m.gguf", llama(), tensors=tensors)
    assert need_of(settings(**engine), file).weights == held


def test_the_pool_is_rounded_up_as_llama_cpp_does(tmp_path: Path) -> None:
    assert gguf(tmp_path, llama(), context=100, slots=1).cache == 256 * 4 * 2 * 32 * 2


def test_heads_may_have_a_size_of_their_own_and_differ_between_layers(tmp_path: Path) -> None:
    header = llama(attention__key_length=32, attention__value_length=8, attention__head_count_kv=[1, 2, 3, 4])
    assert gguf(tmp_path, header).cache == (2048 + ASIDE) * 10 * 40 * 2


def test_a_model_without_grouped_heads_keeps_them_all(tmp_path: Path) -> None:
    header = llama()
    del header["llama.attention.head_count_kv"]
    assert gguf(tmp_path, header).cache == (2048 + ASIDE) * 4 * 4 * 32 * 2


def test_seeing_takes_what_pictures_are_kept_in_and_a_mask_of_the_largest_ones_patches(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", llama())
    names = ("m.gguf", "mmproj.gguf")
    files = [{"file": name, "bytes": 1000, "sha256": "0" * 64} for name in names]
    weights = {"folder": "f", "entry": "m.gguf", "files": files, "sources": [{"path": "/f"}]}
    needs = []
    for more in ({}, {"projector": "mmproj.gguf", "image_max_tokens": 100}):
        engine = {"context": 1024, "slots": 2, **more}
        raw = {"id": "m", "handler": "llamacpp", "weights": weights, "engine": engine}
        needs.append(need_of(ModelSettings.model_validate(raw), file))
    assert needs[0].weights == needs[1].weights == 2000
    assert needs[1].compute - needs[0].compute == 128 * 1024 * 1024 + 400 * 400 * 4


def test_latent_attention_keeps_one_vector_a_token(tmp_path: Path) -> None:
    header = llama(attention__kv_lora_rank=512, rope__dimension_count=64)
    assert gguf(tmp_path, header).cache == (2048 + ASIDE) * 4 * 576 * 2


SSM: dict[str, Value] = {"ssm__inner_size": 128, "ssm__state_size": 16, "ssm__conv_kernel": 4, "ssm__group_count": 1}
STATE = (3 * (128 + 2 * 16) + 128 * 16) * 4


@pytest.mark.parametrize(
    ("more", "attention", "recurrent"),
    [
        ({"attention__head_count_kv": [0, 0, 0, 2]}, 1, 3),
        ({"full_attention_interval": 2}, 2, 2),
        ({"attention__head_count_kv": 0}, 0, 4),
    ],
)
def test_recurrent_layers_keep_a_state_for_each_sequence_and_nothing_for_a_token(
    tmp_path: Path, more: dict[str, Value], attention: int, recurrent: int
) -> None:
    cache = gguf(tmp_path, llama(**SSM, **more)).cache
    assert cache == 2048 * attention * 2 * 32 * 2 + 2 * recurrent * STATE


@pytest.mark.parametrize(("layers", "share"), [(0, 1.0), (1, 0.75), (4, 0.0), (99, 0.0), (-1, 0.0)])
def test_what_goes_to_a_gpu_is_not_counted(tmp_path: Path, layers: int, share: float) -> None:
    here = gguf(tmp_path, llama(), gpu_layers=layers)
    # What idle slots hold beside the cache is always here.
    assert (here.weights, here.cache) == (1000 * share, (2048 * share + ASIDE) * 4 * 2 * 32 * 2)


def test_larger_pools_and_batches_need_more_to_compute(tmp_path: Path) -> None:
    least = gguf(tmp_path, llama(), context=256, slots=1, batch=32).compute
    assert 0 < least < gguf(tmp_path, llama(), context=256, slots=1, batch=512).compute
    assert least < gguf(tmp_path, llama(), context=4096, slots=1, batch=32).compute


def test_a_cache_is_not_known_before_the_file_is_here() -> None:
    need = need_of(settings(), None)
    assert (need.weights, need.cache, need.model, need.total) == (1000, None, 1000, 1000 + PROCESS_BYTES)


def test_handlers_without_weights_need_little() -> None:
    e5, echo = (need_of(ModelSettings(id="m", handler=name), None) for name in ("e5", "echo"))
    assert 0 < e5.model < 200e6
    assert (echo.model, echo.total) == (0, PROCESS_BYTES)
