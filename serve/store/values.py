"""What a database takes: text without NUL, JSON that every JSON parser reads, metadata within OpenAI's limits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from serve.errors import InvalidRequest

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None

MAX_JSON_DEPTH = 200
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512

# PostgreSQL refuses U+0000 in every text type, and neither database can encode half a surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean_text(text: str) -> str:
    """``text`` with NUL and lone surrogates replaced by U+FFFD.

    Replaced and not refused: the text is often a model's finished answer, which a refusal would lose.
    """
    return _UNSTORABLE.sub("\ufffd", text)


def clean_json(value: Json, param: str) -> Json:
    """``value`` as a database keeps it: clean text, and null for NaN and the infinities, which JSON lacks.

    Args:
        value: parsed JSON.
        param: the field that holds it, for the error.

    Raises:
        InvalidRequest: nested deeper than ``MAX_JSON_DEPTH`` levels.
    """
    return _clean(value, param, MAX_JSON_DEPTH)


def _clean(value: Json, param: str, levels: int) -> Json:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, dict | list):
        return value
    if not levels:
        raise InvalidRequest(f"{param} is nested deeper than {MAX_JSON_DEPTH} levels.", param=param)
    if isinstance(value, dict):
        return {clean_text(key): _clean(item, param, levels - 1) for key, item in value.items()}
    return [_clean(item, param, levels - 1) for item in value]


def checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """``metadata`` with clean text, within the limits of OpenAI's API.

    A conversation is stored when its answer is complete; call this when the request comes in, so that metadata
    which cannot be stored is refused before anything is generated.

    Raises:
        InvalidRequest: more than 16 pairs, a key of more than 64 characters, or a value of more than 512.
    """
    if len(metadata) > MAX_METADATA_PAIRS:
        raise InvalidRequest(f"metadata has more than {MAX_METADATA_PAIRS} pairs.", param="metadata")
    for key, value in metadata.items():
        if not 1 <= len(key) <= MAX_METADATA_KEY:
            raise InvalidRequest(
                f"A key of metadata has from 1 to {MAX_METADATA_KEY} characters, not {len(key)}.",
                param="metadata",
            )
        if len(value) > MAX_METADATA_VALUE:
            raise InvalidRequest(
                f"A value of metadata has at most {MAX_METADATA_VALUE} characters, not {len(value)}.",
                param="metadata",
            )
    return {clean_text(key): clean_text(value) for key, value in metadata.items()}
