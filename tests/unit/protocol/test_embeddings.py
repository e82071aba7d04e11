"""Embeddings on the wire."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.protocol.embeddings import embeddings_body
from serve.protocol.events import Embeddings
from serve.protocol.requests import EmbeddingRequest

VECTOR = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8)


@given(st.lists(VECTOR, min_size=1, max_size=4))
def test_base64_holds_the_same_numbers_as_the_list(vectors: list[list[float]]) -> None:
    result = Embeddings(vectors, 3)
    plain = embeddings_body(EmbeddingRequest(model="m", input="a"), "m", result)
    packed = embeddings_body(EmbeddingRequest(model="m", input="a", encoding_format="base64"), "m", result)
    for one, other in zip(plain["data"], packed["data"], strict=True):
        raw = base64.b64decode(other["embedding"])
        assert list(struct.unpack(f"<{len(one['embedding'])}f", raw)) == one["embedding"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_vectors_are_numbered_in_the_order_of_the_inputs(count: int) -> None:
    result = Embeddings([[float(i)] for i in range(count)], 7)
    body = embeddings_body(EmbeddingRequest(model="m", input=["a"]), "m", result)
    assert (body["object"], body["model"]) == ("list", "m")
    assert [(one["object"], one["index"]) for one in body["data"]] == [("embedding", i) for i in range(count)]
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
