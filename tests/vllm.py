"""What tests of the vLLM handler share: checkpoints, small ones made here, and handlers on them."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from serve.handlers.vllm.handler import VllmHandler
from serve.models import fetch
from serve.settings.config import load
from serve.settings.model import ModelSettings
from tests.group import ROOT

#: Engine settings that every test uses: on processors, started in seconds.
ENGINE: dict[str, Any] = {
    "device": "cpu",
    "dtype": "float32",
    "enforce_eager": True,
    "context": 512,
    "cache_bytes": 256 * 1024**2,
    "max_sequences": 8,
}

#: The real tokenizer's tokens and some room, as in Qwen's own checkpoints.
VOCABULARY = 152064

#: As Qwen3's templates write it, with the reasoning begun (as Qwen3-Thinking's do), tools and pictures.
TEMPLATE = """\
{%- if tools %}<|im_start|>system
You may call these functions, in <tool_call></tool_call>: {{ tools | tojson }}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}
{%- if part.type in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}
{%- endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% else %}<think>
{% endif %}{% endif %}"""


def smollm2_folder() -> Path:
    """SmolLM2-135M as a checkpoint, made from its GGUF when it is not here yet."""
    settings = smollm2_settings()
    assert settings.weights is not None
    return fetch(settings.id, settings.weights, progress=False)


def smollm2_settings() -> ModelSettings:
    """The model of ``configs/vllm-cpu.yaml``."""
    [found] = load(ROOT / "configs" / "vllm-cpu.yaml").models
    return found


def settings_of(model: str, folder: Path, **engine: Any) -> ModelSettings:
    """A model whose checkpoint lies in ``folder``."""
    files = [
        {"file": file.name, "bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in sorted(folder.iterdir())
    ]
    weights = {"folder": folder.name, "files": files, "sources": [{"path": str(folder)}]}
    raw = {"id": model, "handler": "vllm", "weights": weights, "engine": {**ENGINE, **engine}}
    return ModelSettings.model_validate(raw)


@asynccontextmanager
async def loaded(settings: ModelSettings) -> AsyncIterator[VllmHandler]:
    """A handler, unloaded at the end."""
    handler = VllmHandler(settings)
    await handler.load()
    try:
        yield handler
    finally:
        await handler.unload()


def save_qwen3(folder: Path, tokenizer: Any) -> None:
    """A Qwen3 of 2 small layers with random weights."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        **_small_text(),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # With one table for both ends, random weights say the last token again for ever.
        tie_word_embeddings=False,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_qwen3_vl(folder: Path, tokenizer: Any) -> None:
    """A Qwen3-VL of small layers with random weights, and a real processor of pictures."""
    import torch
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [12, 10, 10], "mrope_interleaved": True}
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    config = Qwen3VLConfig(
        text_config={"vocab_size": VOCABULARY, **_small_text(), "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 128,
            "num_heads": 2,
            "intermediate_size": 128,
            "out_hidden_size": 64,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 64,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=False,
    )
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}
    images = Qwen2VLImageProcessor(patch_size=16, merge_size=2, size=pixels)
    videos = Qwen3VLVideoProcessor(patch_size=16, merge_size=2, size=pixels)
    Qwen3VLProcessor(images, tokenizer, videos, chat_template=TEMPLATE).save_pretrained(folder)


def _small_text() -> dict[str, Any]:
    # vLLM's attention on processors takes heads of 32 numbers and more.
    return {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "max_position_embeddings": 4096,
    }


def thinking_tokenizer(qwen: Any) -> Any:
    """A Qwen's tokenizer with the tokens that thinking models add, which is another one."""
    tokenizer = copy.deepcopy(qwen)
    tokenizer.add_tokens(["<think>", "</think>", "<tool_call>", "</tool_call>"])
    pictures = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_tokens(pictures, special_tokens=True)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def byte_tokenizer() -> Any:
    """A tokenizer with a token for each byte and Qwen's marks, made in a moment."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=letters, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    names = ("im_start", "vision_start", "vision_end", "image_pad", "video_pad")
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[f"<|{name}|>" for name in names],
        chat_template=TEMPLATE,
    )


def save_adapter(folder: Path, base: Path, *, rank: int = 8, hidden: int | None = None) -> Path:
    """A PEFT adapter with random weights for the query projections of a checkpoint of Llama's kind."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    size = hidden or config["hidden_size"]
    generator = torch.Generator().manual_seed(rank)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(rank, size, generator=generator)
        weights[f"{name}.lora_B.weight"] = torch.randn(size, rank, generator=generator)
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    kind = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": ["q_proj"],
    }
    about = {**kind, "base_model_name_or_path": base.name, "bias": "none", "lora_dropout": 0.0}
    (folder / "adapter_config.json").write_text(json.dumps(about), encoding="utf-8")
    return folder
