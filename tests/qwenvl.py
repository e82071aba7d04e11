"""A Qwen2.5-VL for llama.cpp, made here: small random layers, a token for each byte, and its projector."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from serve.settings.model import ModelSettings

MODEL, PROJECTOR = "tiny-qwen2.5-vl.gguf", "mmproj-tiny.gguf"
_WIDTH, _HEADS, _INNER, _LAYERS = 128, 4, 192, 2
_SIGHT_WIDTH, _SIGHT_HEADS, _SIGHT_INNER, _PATCH = 64, 2, 96, 14

#: As Qwen2.5-VL's own template begins and ends a turn; pictures are in the content by then.
TEMPLATE = """\
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def save_qwen2_5_vl(folder: Path) -> None:
    """Write ``MODEL`` and ``PROJECTOR`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(0)
    _save_text(folder / MODEL, numbers)
    _save_projector(folder / PROJECTOR, numbers)


def settings_of(folder: Path, **engine: Any) -> ModelSettings:
    """A model whose two files lie in ``folder``."""
    files = [
        {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name in (MODEL, PROJECTOR)
        if (content := (folder / name).read_bytes())
    ]
    weights = {"folder": folder.name, "entry": MODEL, "files": files, "sources": [{"path": str(folder)}]}
    told = {"context": 1024, "threads": 1, "projector": PROJECTOR, "images": 2, "image_max_tokens": 64, **engine}
    return ModelSettings.model_validate({"id": "seer", "handler": "llamacpp", "weights": weights, "engine": told})


def _save_text(path: Path, numbers: np.random.Generator) -> None:
    writer = gguf.GGUFWriter(path, "qwen2vl")
    writer.add_block_count(_LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_dimension_sections([4, 6, 6, 0])
    words = _add_tokenizer(writer)
    writer.add_chat_template(TEMPLATE)

    def matrix(name: str, *shape: int, scale: float = 0.08) -> None:
        writer.add_tensor(name, (numbers.standard_normal(shape) * scale).astype(np.float32))

    matrix("token_embd.weight", words, _WIDTH, scale=1.0)
    matrix("output.weight", words, _WIDTH, scale=0.1)
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{norm}.weight", np.ones(_WIDTH, np.float32))
        for part, rows in (("q", _WIDTH), ("k", _WIDTH // 2), ("v", _WIDTH // 2)):
            matrix(f"{block}.attn_{part}.weight", rows, _WIDTH)
            matrix(f"{block}.attn_{part}.bias", rows)
        matrix(f"{block}.attn_output.weight", _WIDTH, _WIDTH)
        matrix(f"{block}.ffn_gate.weight", _INNER, _WIDTH)
        matrix(f"{block}.ffn_up.weight", _INNER, _WIDTH)
        matrix(f"{block}.ffn_down.weight", _WIDTH, _INNER)
    _write(writer)


def _add_tokenizer(writer: gguf.GGUFWriter) -> int:
    """A tokenizer of Qwen's kind that knows bytes, one pair, and Qwen's marks; returns how many tokens it has."""
    # GPT-2's letters for bytes: those that can be printed stand for themselves.
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printed]
    letters = {byte: chr(byte) for byte in printed} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}
    marks = [f"<|{name}|>" for name in ("endoftext", "im_start", "im_end", "vision_start", "vision_end", "image_pad")]
    words = [*(letters[byte] for byte in range(256)), letters[32] + "t", *marks]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * len(marks))
    writer.add_token_merges([f"{letters[32]} t"])
    writer.add_bos_token_id(words.index("<|endoftext|>"))
    writer.add_eos_token_id(words.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    return len(words)


def _save_projector(path: Path, numbers: np.random.Generator) -> None:
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "qwen2.5vl_merger")
    writer.add_bool("clip.use_silu", True)
    writer.add_array("clip.vision.image_mean", [0.48145466, 0.4578275, 0.40821073])
    writer.add_array("clip.vision.image_std", [0.26862954, 0.26130258, 0.27577711])
    for key, value in {
        "image_size": 560,
        "patch_size": _PATCH,
        "embedding_length": _SIGHT_WIDTH,
        "feed_forward_length": _SIGHT_INNER,
        "block_count": 2,
        "projection_dim": _WIDTH,
        "attention.head_count": _SIGHT_HEADS,
        "n_wa_pattern": 2,
        "window_size": 112,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)

    def matrix(name: str, *shape: int) -> None:
        writer.add_tensor(name, (numbers.standard_normal(shape) * 0.1).astype(np.float32))

    for name in ("v.patch_embd.weight", "v.patch_embd.weight.1"):
        matrix(name, _SIGHT_WIDTH, 3, _PATCH, _PATCH)
    for layer in range(2):
        block = f"v.blk.{layer}"
        for norm in ("ln1", "ln2"):
            writer.add_tensor(f"{block}.{norm}.weight", np.ones(_SIGHT_WIDTH, np.float32))
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            matrix(f"{block}.{part}.weight", _SIGHT_WIDTH, _SIGHT_WIDTH)
            matrix(f"{block}.{part}.bias", _SIGHT_WIDTH)
        for part, rows, columns in (
            ("ffn_gate", _SIGHT_INNER, _SIGHT_WIDTH),
            ("ffn_up", _SIGHT_INNER, _SIGHT_WIDTH),
            ("ffn_down", _SIGHT_WIDTH, _SIGHT_INNER),
        ):
            matrix(f"{block}.{part}.weight", rows, columns)
            matrix(f"{block}.{part}.bias", rows)
    writer.add_tensor("v.post_ln.weight", np.ones(_SIGHT_WIDTH, np.float32))
    for place, rows in ((0, 4 * _SIGHT_WIDTH), (2, _WIDTH)):
        matrix(f"mm.{place}.weight", rows, 4 * _SIGHT_WIDTH)
        matrix(f"mm.{place}.bias", rows)
    _write(writer)


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
