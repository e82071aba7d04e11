"""Headers of GGUF files, written by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

Value = int | float | bool | str | Sequence[int] | Sequence[str]


def write_gguf(
    path: Path, values: Mapping[str, Value], *, tensors: Mapping[str, int] | None = None, version: int = 3
) -> Path:
    """A file with these metadata, and tensors of so many bytes, in multiples of 32."""
    tensors = tensors or {}
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    header += b"".join(_string(key) + _typed(value) for key, value in values.items())
    at = 0
    for name, size in tensors.items():
        header += _string(name) + struct.pack("<IQQIQ", 2, 8, size // 8, 24, at)
        at += size
    path.write_bytes(header + (bytes(-len(header) % 32 + at) if tensors else b""))
    return path


def llama(**changed: Value) -> dict[str, Value]:
    """The metadata of a small Llama: 4 layers of 2 KV heads of 16 and 100 tokens; ``changed`` are its own keys."""
    own: dict[str, Value] = {
        "block_count": 4,
        "embedding_length": 64,
        "feed_forward_length": 128,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        **{key.replace("__", "."): value for key, value in changed.items()},
    }
    tokens: Value = [f"token{number}" for number in range(100)]
    return {
        "general.architecture": "llama",
        **{f"llama.{key}": value for key, value in own.items()},
        "tokenizer.ggml.tokens": tokens,
    }


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _typed(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    head = struct.pack("<I", 9)
    if value and isinstance(value[0], str):
        return head + struct.pack("<IQ", 8, len(value)) + b"".join(_string(str(one)) for one in value)
    return head + struct.pack(f"<IQ{len(value)}I", 4, len(value), *value)
