"""Checkpoints made from a GGUF file: the real SmolLM2, in transformers and in llama.cpp, must be the same model."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llama_cpp import Llama
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from serve.models import ModelSourceError, fetch, list_local, local_path, verify
from serve.models.place import Place
from serve.settings.model import ModelSettings
from serve.settings.weights import FolderSettings

TEXTS = [
    "Hello, world!",
    "  two spaces,\ttab\nand a line",
    "It's 2024-11-23, and 1234567.89 costs 5€.",
    "naïve café: Grüße, Привет, 你好, こんにちは, 😀👩‍👩‍👧",
    "def f(x):\n    return {'a': [1, 2]}\n",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "",
]


def settings_of(gguf: Path, **more: Any) -> FolderSettings:
    """Settings of a checkpoint that is made from this file."""
    content = gguf.read_bytes()
    source = {
        "file": "model.gguf",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "sources": [{"path": str(gguf)}],
        **more,
    }
    return FolderSettings.model_validate({"folder": "checkpoint", "sources": [{"gguf": source}]})


@pytest.fixture(scope="module")
def gguf(smollm2_settings: ModelSettings) -> Path:
    """SmolLM2 as a GGUF file."""
    assert smollm2_settings.weights is not None
    return local_path(smollm2_settings.id, smollm2_settings.weights)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all models."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def checkpoint(gguf: Path, root: Path) -> Path:
    """SmolLM2 as a checkpoint in float32."""
    return fetch("smol", settings_of(gguf), progress=False, root=root)


@pytest.fixture(scope="module")
def llama(gguf: Path) -> Iterator[Llama]:
    """SmolLM2 in llama.cpp."""
    model = Llama(str(gguf), n_ctx=256, logits_all=True, verbose=False, n_threads=2)
    yield model
    model.close()


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> Any:
    """The checkpoint's tokenizer."""
    return AutoTokenizer.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    """The checkpoint in transformers."""
    return AutoModelForCausalLM.from_pretrained(checkpoint).eval()


@pytest.mark.parametrize("text", TEXTS)
def test_both_tokenize_alike(llama: Llama, tokenizer: Any, text: str) -> None:
    assert llama.metadata["tokenizer.ggml.add_bos_token"] == "false"
    assert tokenizer(text)["input_ids"] == llama.tokenize(text.encode(), add_bos=False, special=True)


def test_both_answer_a_question_with_the_same_tokens(llama: Llama, model: Any, tokenizer: Any) -> None:
    chat = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of Japan?"},
    ]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    prompt = llama.tokenize(text.encode(), add_bos=False, special=True)
    expected: list[int] = []
    for token in llama.generate(prompt, temp=0.0, repeat_penalty=1.0):
        expected.append(token)
        if token == llama.token_eos() or len(expected) == 20:
            break
    with torch.inference_mode():
        answer = model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)
    assert answer[0, len(prompt) :].tolist() == expected
    assert tokenizer.decode(expected) == "The capital of Japan is Tokyo.<|im_end|>"


def test_both_give_a_text_nearly_the_same_logits(llama: Llama, model: Any) -> None:
    tokens = llama.tokenize(b"The capital of France is Paris, and the capital of Italy is Rome.", add_bos=False)
    llama.reset()
    llama.eval(tokens)
    expected = np.array(llama.scores[: len(tokens)])
    with torch.inference_mode():
        got = model(torch.tensor([tokens])).logits[0].numpy()
    # llama.cpp also rounds what goes into each multiplication to 8 bits.
    likeness = (expected * got).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(got, axis=1)
    assert likeness.min() > 0.99
    assert (expected.argmax(1) == got.argmax(1)).mean() > 0.9


def test_the_special_tokens_are_those_of_the_gguf(llama: Llama, tokenizer: Any) -> None:
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (llama.token_bos(), llama.token_eos())
    assert (tokenizer.eos_token, tokenizer.unk_token) == ("<|im_end|>", "<|endoftext|>")


def test_the_chat_template_comes_with_the_tokenizer(llama: Llama, tokenizer: Any) -> None:
    assert tokenizer.chat_template == llama.metadata["tokenizer.chat_template"]


def test_the_checkpoint_is_plain_safetensors_of_the_stated_type(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    assert config["eos_token_id"] == 2
    with safe_open(checkpoint / "model.safetensors", "pt") as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.float32}  # noqa: SIM118


def test_a_second_start_makes_nothing(gguf: Path, root: Path, checkpoint: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in checkpoint.iterdir()}
    assert fetch("smol", settings_of(gguf), progress=False, root=root) == checkpoint
    assert {path: path.stat().st_mtime_ns for path in checkpoint.iterdir()} == before


def test_the_manifest_says_what_it_was_made_of_and_with(gguf: Path, root: Path, checkpoint: Path) -> None:
    manifest = json.loads((root / "smol" / "checkpoint.json").read_text())
    sha256 = hashlib.sha256(gguf.read_bytes()).hexdigest()
    assert manifest["pin"] == f"gguf sha256:{sha256} as float32"
    assert manifest["made_with"]["torch"] == torch.__version__
    assert verify("smol", settings_of(gguf), root=root) == checkpoint
    assert [found.name for found in list_local(root=root)] == ["checkpoint"]


def test_another_type_is_another_checkpoint(gguf: Path, tmp_path: Path) -> None:
    path = fetch("smol", settings_of(gguf, dtype="bfloat16"), progress=False, root=tmp_path)
    with safe_open(path / "model.safetensors", "pt") as tensors:
        assert tensors.get_tensor("model.norm.weight").dtype == torch.bfloat16
    assert (path / "model.safetensors").stat().st_size < 280e6


@pytest.mark.parametrize("keep", [100, 50_000_000])
def test_a_file_that_transformers_cannot_read_leaves_nothing(gguf: Path, tmp_path: Path, keep: int) -> None:
    broken = tmp_path / "broken.gguf"
    with gguf.open("rb") as whole:
        broken.write_bytes(whole.read(keep))
    with pytest.raises(
        ModelSourceError, match=r"^smol: no source gave the folder \(model\.gguf: transformers cannot"
    ):
        fetch("smol", settings_of(broken), progress=False, root=tmp_path / "models")
    place = Place(tmp_path / "models" / "smol", "checkpoint")
    assert not place.path.exists() and not place.parts.exists() and not place.manifest.exists()


def test_a_file_that_is_no_gguf_is_told_in_one_line(tmp_path: Path) -> None:
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(random.Random(1).randbytes(1000))
    with pytest.raises(ModelSourceError) as caught:
        fetch("smol", settings_of(junk), progress=False, root=tmp_path / "models")
    assert "transformers cannot make a checkpoint of it: " in str(caught.value)
    assert "\n" not in str(caught.value)
