"""Embeddings on the wire."""

from __future__ import annotations

import base64
import struct
from typing import Any

from serve.protocol.events import Embeddings
from serve.protocol.requests import EmbeddingRequest


def embeddings_body(request: EmbeddingRequest, model: str, result: Embeddings) -> dict[str, Any]:
    """OpenAI's list of embeddings; base64 holds little-endian 32-bit floats."""
    as_base64 = request.encoding_format == "base64"
    return {
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if as_base64 else vector}
            for index, vector in enumerate(result.vectors)
        ],
        "usage": {"prompt_tokens": result.prompt_tokens, "total_tokens": result.prompt_tokens},
    }


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
