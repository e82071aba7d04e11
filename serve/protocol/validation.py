"""From parsed JSON to a typed request, or to an error that names the field at fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from serve.errors import InvalidRequest
from serve.settings.errors import path_of, unknown_key

T = TypeVar("T", bound=BaseModel)


def parse_json(body: bytes) -> dict[str, object]:
    """The JSON object in ``body``.

    Raises:
        InvalidRequest: it is no JSON, or JSON of another kind.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(found, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    return found


def parse_request(kind: type[T], raw: dict[str, object]) -> T:
    """``raw`` as a ``kind``.

    Raises:
        InvalidRequest: the first fault of the deepest ones, with the field's path as ``param``.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        faults = [
            (_location(fault["loc"], raw), fault["type"], fault["msg"])
            for fault in error.errors(include_url=False, include_input=False)
        ]
    location, fault_type, message = max(faults, key=lambda fault: len(fault[0]))
    param = path_of(location) or None
    if fault_type == "extra_forbidden":
        known = kind.model_fields if len(location) == 1 else ()
        sentence = unknown_key(str(location[-1]), known).partition("; allowed")[0]
        raise InvalidRequest(f"{param}: {sentence}.", param=param, code="unknown_parameter")
    if fault_type == "missing":
        raise InvalidRequest(f"{param}: this field is required.", param=param, code="missing_parameter")
    text = message.removeprefix("Value error, ")
    if param is None and text.partition(" ")[0] in kind.model_fields:
        param = text.partition(" ")[0]
    raise InvalidRequest(f"{param}: {text}." if location else f"{text}.", param=param)


def _location(parts: Sequence[int | str], raw: object) -> list[int | str]:
    """``parts`` without the names that pydantic adds for members of a union: only steps that ``raw`` has."""
    here: Any = raw
    kept: list[int | str] = []
    for position, part in enumerate(parts):
        if _has(here, part):
            here = here[part]
        elif not (isinstance(here, dict) and position == len(parts) - 1):
            continue
        kept.append(part)
    return kept


def _has(here: object, part: int | str) -> bool:
    if isinstance(here, list):
        return isinstance(part, int) and part < len(here)
    return isinstance(here, dict) and part in here
