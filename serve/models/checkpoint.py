"""Turns a GGUF file into a checkpoint folder in Hugging Face's layout, for engines and trainers that load one.

The weights are dequantized, so they have the GGUF's precision and not the original model's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from serve.models.errors import SourceFailed
from serve.models.manifest import FileRecord, record_of
from serve.models.place import Place, files_in, remove_any
from serve.models.space import require_space
from serve.models.wanted import WantedFile

_LIBRARIES = ("torch", "transformers", "gguf", "safetensors")
#: Key of a GGUF -> the tokenizer's special token that it gives. transformers 5.17 confuses some of them.
_SPECIAL_TOKENS = {
    "tokenizer.ggml.bos_token_id": "bos_token",
    "tokenizer.ggml.eos_token_id": "eos_token",
    "tokenizer.ggml.unknown_token_id": "unk_token",
    "tokenizer.ggml.padding_token_id": "pad_token",
}
#: The kind of token in a GGUF that is found in a text before it is split, and is shown in an answer.
_USER_DEFINED = 4


def require_libraries() -> None:
    """Raise ``SourceFailed`` when a library that makes checkpoints is not installed."""
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise SourceFailed(
            f"a checkpoint is made with {', '.join(missing)}; install it with: scripts/setup.sh checkpoint"
        )


def make_checkpoint(
    gguf: Path, place: Place, dtype: str, *, progress: bool
) -> tuple[list[FileRecord], dict[str, str]]:
    """Make the checkpoint in ``place``, whole or not at all; gives its files and the versions of what made it.

    Raises:
        SourceFailed: there is no space, or transformers cannot read the file.
    """
    remove_any(place.parts)
    alone, made = place.parts / "gguf", place.parts / "made"
    try:
        alone.mkdir(parents=True)
        # In a folder of its own: transformers would also read the config of another model beside it.
        (alone / "model.gguf").symlink_to(gguf)
        with _progress_bars(progress):
            _convert(alone, made, dtype)
        remove_any(place.path)
        made.replace(place.path)
    finally:
        remove_any(place.parts)
    records = [_record(file, file.relative_to(place.path).as_posix()) for file in files_in(place.path)]
    return records, {name: version(name) for name in _LIBRARIES}


def _convert(source: Path, target: Path, dtype: str) -> None:
    # Heavy, and needed by this function alone.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from serve.models.gguf_reader import GgufReader, hasten

    hasten()
    kind: torch.dtype = getattr(torch, dtype)
    options: dict[str, Any] = {"gguf_file": "model.gguf", "local_files_only": True}
    try:
        reader = GgufReader(source / "model.gguf")
        require_space(source, sum(int(tensor.n_elements) for tensor in reader.tensors) * kind.itemsize)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=kind, **options)
    except SourceFailed:
        raise
    except Exception as failure:
        reason = str(failure).strip().partition("\n")[0]
        raise SourceFailed(f"transformers cannot make a checkpoint of it: {reason}") from failure
    _complete_tokenizer(tokenizer, reader.fields)
    # These say that the weights are quantized, which is no longer true.
    for owner, name in ((model, "hf_quantizer"), (model.config, "quantization_config")):
        if hasattr(owner, name):
            delattr(owner, name)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _complete_tokenizer(tokenizer: Any, fields: Mapping[str, Any]) -> None:  # noqa: ANN401 - without types
    """Set the special tokens by the GGUF's own, and keep its user-defined tokens (``<tool_call>``) in one piece."""
    for key, name in _SPECIAL_TOKENS.items():
        if key in fields:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(int(fields[key].contents())))
    kinds = fields["tokenizer.ggml.token_type"].contents() if "tokenizer.ggml.token_type" in fields else []
    tokenizer.add_tokens(
        [tokenizer.convert_ids_to_tokens(i) for i, kind in enumerate(kinds) if kind == _USER_DEFINED]
    )


@contextmanager
def _progress_bars(shown: bool) -> Iterator[None]:
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    switch = {True: logging.enable_progress_bar, False: logging.disable_progress_bar}
    switch[shown]()
    try:
        yield
    finally:
        switch[before]()


def _record(path: Path, name: str) -> FileRecord:
    seen = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return record_of(WantedFile(name, seen.st_size, f"sha256:{digest}"), seen)
