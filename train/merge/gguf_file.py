"""A merged GGUF file: the base's own file, its tokenizer and settings as they are, with the adapter in its weights.

Weights that the adapter changes are dequantized, changed, and kept as 32-bit floats until the file is quantized; all
others stay bit for bit as they are, unless a quantization is asked for.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize

from serve.adapters.files import CONFIG, WEIGHTS, read_plain
from serve.adapters.peft import Floats, parse_config, parse_weights
from serve.handlers.llamacpp.lora import BaseModel, convert, parts
from serve.handlers.llamacpp.model import Model
from serve.models.gguf_reader import GgufReader
from serve.settings.engines import LlamaCppEngine
from train.merge.quantize import quantize


def merge_gguf(base: Path, adapter: Path, out: Path, quantization: str | None) -> None:
    """Write ``base`` with the PEFT folder ``adapter`` merged into it as the file ``out``, whole or not at all.

    Args:
        quantization: one of ``QUANTIZATIONS``; none keeps the types of the weights that are not changed.

    Raises:
        BadAdapter: the adapter is broken, or none of this base.
        ValueError: the base is in pieces, or cannot be quantized so.
        OSError: something cannot be read or written.
    """
    if len(parts(base)) > 1:
        raise ValueError(f"{base.name} is one of several pieces; join them with llama.cpp's gguf-split first")
    changes = _changes(base, adapter)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".part", dir=out.parent) as made:
        merged, quantized = Path(made) / "merged.gguf", Path(made) / "quantized.gguf"
        _write(base, changes, merged)
        if quantization is not None:
            quantize(merged, quantized, quantization)
            merged = quantized
        merged.replace(out)


def _changes(base: Path, adapter: Path) -> dict[str, Floats]:
    """The matrices of the adapter, by the base's own names: ``<tensor>.lora_a`` and ``.lora_b``."""
    config = parse_config(read_plain(adapter, CONFIG))
    modules = parse_weights(read_plain(adapter, WEIGHTS), config)
    return convert(modules, BaseModel.of(Model(base, LlamaCppEngine()), base))


def _write(base: Path, changes: dict[str, Floats], target: Path) -> None:
    reader = GgufReader(base)
    writer = gguf.GGUFWriter(target, _text(reader, gguf.Keys.General.ARCHITECTURE))
    for field in reader.fields.values():
        _copy(field, writer)
    merged = {tensor.name: _merged(tensor, changes) for tensor in reader.tensors}
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, merged[tensor.name], raw_dtype=_kind(tensor, changes))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()


def _copy(field: Any, writer: gguf.GGUFWriter) -> None:  # noqa: ANN401 - gguf's reader has no types
    """One setting of the base; the architecture and the head of the file are the writer's own."""
    if field.name == gguf.Keys.General.ARCHITECTURE or field.name.startswith("GGUF."):
        return
    kind = field.types[0]
    inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
    writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)


def _kind(tensor: Any, changes: dict[str, Floats]) -> Any:  # noqa: ANN401
    return None if f"{tensor.name}.lora_a" in changes else tensor.tensor_type


def _merged(tensor: Any, changes: dict[str, Floats]) -> Any:  # noqa: ANN401
    a, b = (changes.get(f"{tensor.name}.lora_{part}") for part in "ab")
    if a is None or b is None:
        return tensor.data
    weights = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    # Rows of an embedding are looked up by token: its A came turned round, as llama.cpp wants it.
    change: Floats = a @ b.T if tensor.name == "token_embd.weight" else b @ a
    return weights + change


def _text(reader: GgufReader, key: str) -> str:
    found = reader.get_field(key)
    if found is None:
        raise ValueError(f"the file does not say its {key}")
    return str(found.contents())
