"""Converted adapters against PEFT's own logits: tiny models of every architecture, exactly; real ones, nearly.

Needs torch, transformers and peft, which serving does not.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serve.handlers.llamacpp import lora
from serve.handlers.llamacpp.adapters import Adapter, AdapterFiles
from serve.handlers.llamacpp.context import Context
from serve.handlers.llamacpp.lora import BaseModel
from serve.handlers.llamacpp.model import Model
from serve.models import local_path
from serve.settings.engines import LlamaCppEngine
from serve.settings.model import ModelSettings

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

Floats = NDArray[np.float32]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
#: Largest difference of logits, which are around 1: the cache holds 16-bit floats.
TOLERANCE = 0.02
PROMPT = [5, 17, 99, 3, 42, 7, 120, 64, 8]


def tiny(kind: str, *, tied: bool = False) -> Any:
    """A random Hugging Face model."""
    torch.manual_seed(0)
    sizes = {key: value for key, value in TINY.items() if not (kind == "qwen2" and key == "head_dim")}
    config = transformers.AutoConfig.for_model(kind, **sizes, tie_word_embeddings=tied)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():  # Larger than usual, so that every part of the model matters.
        torch.nn.init.normal_(parameter, std=0.15 if parameter.dim() > 1 else 0.5)
    return model.eval()


def write_gguf(model: Any, kind: str, path: Path, *, tensors_in_a_file: int = 0) -> None:
    """Write a Hugging Face model as llama.cpp's converter does, with no vocabulary; in several files if asked to."""
    architecture = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    names = gguf.get_tensor_name_map(architecture, TINY["num_hidden_layers"])
    head = TINY["hidden_size"] // TINY["num_attention_heads"] if kind == "qwen2" else TINY["head_dim"]
    writer = gguf.GGUFWriter(path, kind, split_max_tensors=tensors_in_a_file)
    writer.add_block_count(TINY["num_hidden_layers"])
    writer.add_context_length(TINY["max_position_embeddings"])
    writer.add_embedding_length(TINY["hidden_size"])
    writer.add_feed_forward_length(TINY["intermediate_size"])
    writer.add_head_count(TINY["num_attention_heads"])
    writer.add_head_count_kv(TINY["num_key_value_heads"])
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(TINY["rms_norm_eps"])
    writer.add_vocab_size(TINY["vocab_size"])
    writer.add_rope_freq_base(model.config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("none")
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        values = tensor.numpy()
        if kind == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = "num_attention_heads" if "q_proj" in name else "num_key_value_heads"
            values = lora.reordered(values, int(TINY[heads]))
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Pair:
    """One model in torch and in llama.cpp, and what both say after a prompt."""

    def __init__(self, model: Any, path: Path, folder: Path, prompt: list[int]) -> None:
        settings = LlamaCppEngine(context=64, slots=1)
        self.torch = model
        self.prompt = prompt
        self.model = Model(path, settings)
        self.context = Context(self.model, settings)
        self.files = AdapterFiles(BaseModel.of(self.model, path), "0" * 64, folder)

    def llama(self, adapter: Path | None = None) -> Floats:
        """llama.cpp's logits after the prompt."""
        loaded = Adapter(self.model, self.files.converted(adapter), "a") if adapter else None
        self.context.use(loaded)
        self.context.clear()
        self.context.batch.clear()
        row = self.context.batch.add(0, array("i", self.prompt), 0, len(self.prompt), output=True)
        assert self.context.decode() == 0
        return self.context.logits(row).copy()

    def peft(self, adapter: Path | None = None) -> Floats:
        """Torch's logits after the prompt."""
        model = peft.PeftModel.from_pretrained(self.torch, adapter) if adapter else self.torch
        with torch.inference_mode():
            logits: Floats = model(torch.tensor([self.prompt])).logits[0, -1].float().numpy().copy()
        if adapter:
            self.torch = model.unload()
        return logits

    def trained(self, folder: Path, *, size: float, dtype: Any = None, **config: Any) -> Path:
        """A PEFT folder with a seeded random adapter, as PEFT itself saves it."""
        wanted = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **config}
        model = peft.get_peft_model(self.torch, peft.LoraConfig(**wanted))
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=size)
                parameter.data = parameter.data.to(dtype) if dtype else parameter.data
        model.save_pretrained(folder)
        self.torch = model.unload()
        return folder


def distance(one: Floats, other: Floats) -> float:
    """How far two distributions over the next token are apart: Kullback-Leibler divergence, in nats."""
    p, q = (logits - np.logaddexp.reduce(logits.astype(np.float64)) for logits in (one, other))
    return float((np.exp(p) * (p - q)).sum())


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank_stabilized": {"use_rslora": True, "r": 8},
    "patterns": {"rank_pattern": {"q_proj": 2, "1.mlp.up_proj": 6}, "alpha_pattern": {"k_proj": 24}},
    "half_precision": {"dtype": "bfloat16"},
    "attention_only": {"target_modules": ["q_proj", "k_proj"]},
}


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3"])
def exact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp(request.param)
    model = tiny(request.param)
    write_gguf(model, request.param, folder / "model.gguf")
    yield Pair(model, folder / "model.gguf", folder / "converted", PROMPT)


def test_the_bases_agree(exact: Pair) -> None:
    assert np.abs(exact.llama() - exact.peft()).max() < TOLERANCE


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_converted_adapter_gives_pefts_logits(exact: Pair, tmp_path: Path, variant: str) -> None:
    config = dict(VARIANTS[variant])
    dtype = getattr(torch, config.pop("dtype")) if "dtype" in config else None
    adapter = exact.trained(tmp_path, size=0.2, dtype=dtype, **config)
    expected = exact.peft(adapter)
    assert np.abs(expected - exact.llama()).max() > 10 * TOLERANCE
    assert np.abs(exact.llama(adapter) - expected).max() < TOLERANCE


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_embeddings_and_the_output_can_be_adapted_where_they_are_apart(exact: Pair, tmp_path: Path) -> None:
    adapter = exact.trained(tmp_path, size=0.2, target_modules=["q_proj", "embed_tokens", "lm_head"])
    expected = exact.peft(adapter)
    assert np.abs(expected - exact.llama()).max() > 10 * TOLERANCE
    assert np.abs(exact.llama(adapter) - expected).max() < TOLERANCE


def test_a_model_in_several_files_takes_adapters(tmp_path: Path) -> None:
    model = tiny("qwen3")
    write_gguf(model, "qwen3", tmp_path / "model.gguf", tensors_in_a_file=7)
    first = min(tmp_path.glob("model-00001-of-*.gguf"))
    pair = Pair(model, first, tmp_path / "converted", PROMPT)
    adapter = pair.trained(tmp_path / "adapter", size=0.2)
    assert len(lora.parts(first)) > 2
    assert np.abs(pair.llama(adapter) - pair.peft(adapter)).max() < TOLERANCE


def test_without_the_reordering_a_llama_adapter_would_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    write_gguf(model, "llama", tmp_path / "model.gguf")
    pair = Pair(model, tmp_path / "model.gguf", tmp_path / "converted", PROMPT)
    adapter = pair.trained(tmp_path / "adapter", size=0.2)
    monkeypatch.setitem(lora.REORDERED, "llama", False)
    assert np.abs(pair.llama(adapter) - pair.peft(adapter)).max() > 10 * TOLERANCE


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
@pytest.mark.parametrize(("model_id", "size"), [("smollm2-135m", 0.07), ("qwen2.5-coder-0.5b", 0.03)])
def test_real_models_agree_with_an_adapter_as_well_as_without(
    model_id: str, size: float, tmp_path: Path, smollm2_settings: ModelSettings, qwen_settings: ModelSettings
) -> None:
    settings = {one.id: one for one in (smollm2_settings, qwen_settings)}[model_id]
    assert settings.weights is not None
    path = local_path(settings.id, settings.weights)
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    prompt = list(Model(path, LlamaCppEngine()).tokenize("The capital of France is Paris. The capital of Italy is"))
    pair = Pair(model.eval(), path, tmp_path / "converted", prompt)
    adapter = pair.trained(tmp_path / "adapter", size=size, r=8, lora_alpha=16)
    expected = pair.peft(adapter)
    # What is left is llama.cpp's rounding of activations to 8 bits, which the base shows as well.
    assert distance(pair.peft(), pair.llama()) < 0.02
    assert distance(expected, pair.llama(adapter)) < 0.02
    assert distance(expected, pair.llama()) > 0.2
