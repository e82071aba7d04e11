"""Turns a GGUF file into a checkpoint folder in Hugging Face's layout, for engines and trainers that load one.

The weights are dequantized, so they have the GGUF's precision and not the original model's.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from serve.models.errors import SourceFailed
from serve.models.manifest import FileRecord, record_of
from serve.models.place import Place, files_in, remove_any
from serve.models.wanted import WantedFile

_LIBRARIES = ("torch", "transformers", "gguf", "safetensors")


def require_libraries() -> None:
    """Raise ``SourceFailed`` when a library that makes checkpoints is not installed."""
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise SourceFailed(
            f"a checkpoint is made with {', '.join(missing)}; install it with: pip install 'groupqwen[checkpoint]'"
        )


def make_checkpoint(gguf: Path, place: Place, dtype: str) -> tuple[list[FileRecord], dict[str, str]]:
    """Make the checkpoint in ``place``, whole or not at all; gives its files and the versions of what made it.

    Raises:
        SourceFailed: transformers cannot read the file.
    """
    remove_any(place.parts)
    place.parts.mkdir()
    try:
        _convert(gguf, place.parts, dtype)
    except (ValueError, KeyError, RuntimeError, NotImplementedError, AttributeError) as failure:
        reason = str(failure).strip().partition("\n")[0]
        raise SourceFailed(f"transformers cannot make a checkpoint of it: {reason}") from failure
    remove_any(place.path)
    place.parts.replace(place.path)
    records = [_record(file, file.relative_to(place.path).as_posix()) for file in files_in(place.path)]
    return records, {name: version(name) for name in _LIBRARIES}


def _convert(gguf: Path, folder: Path, dtype: str) -> None:
    # Heavy, and needed by this function alone.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=getattr(torch, dtype))
    # They say that the weights are quantized, which is no longer true.
    for owner, name in ((model, "hf_quantizer"), (model.config, "quantization_config")):
        if hasattr(owner, name):
            delattr(owner, name)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _record(path: Path, name: str) -> FileRecord:
    seen = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return record_of(WantedFile(name, seen.st_size, f"sha256:{digest}"), seen)
