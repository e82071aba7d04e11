"""A question whose answer a grammar binds to two boxes, and how sure a model is of each."""

from __future__ import annotations

from typing import Any

from serve.handlers.vision.answers import entries_of
from serve.handlers.vision.confidence import Tokens

_ENTRY = {
    "type": "object",
    "properties": {
        "bbox_2d": {"type": "array", "items": {"enum": [1, 20, 300]}, "minItems": 4, "maxItems": 4},
        "label": {"enum": ["cat", "a 狗"]},
    },
    "required": ["bbox_2d", "label"],
    "additionalProperties": False,
}
_SCHEMA = {
    "type": "object",
    "properties": {"objects": {"type": "array", "items": _ENTRY, "minItems": 2, "maxItems": 2}},
    "required": ["objects"],
    "additionalProperties": False,
}
#: Fields of a chat that is answered with two boxes and the probabilities of its tokens.
TWO_BOXES: dict[str, Any] = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "objects", "schema": _SCHEMA}},
    "logprobs": True,
    "temperature": 0,
    "max_tokens": 400,
}


def confidences(completion: dict[str, Any]) -> list[float | None]:
    """How sure a model is of each of the boxes in its answer, which has every token of its text."""
    choice = completion["choices"][0]
    text, tokens = choice["message"]["content"], choice["logprobs"]["content"]
    assert text.encode() in b"".join(bytes(token["bytes"]) for token in tokens)
    found = Tokens(text, choice["logprobs"])
    return [found.confidence(entry) for entry in entries_of(text)]
