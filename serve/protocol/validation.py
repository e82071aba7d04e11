"""From parsed JSON to a typed request, or to an error that names the field at fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from serve.errors import InvalidRequest
from serve.settings.errors import path_of
from serve.settings.suggest import nearest

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
            (_location(fault["loc"], raw, fault["type"]), fault["type"], fault["msg"])
            for fault in error.errors(include_url=False, include_input=False)
        ]
    location, fault_type, message = max(faults, key=lambda fault: len(fault[0]))
    param = path_of(location) or None
    fields = [field.alias or name for name, field in kind.model_fields.items()]
    if fault_type == _UNKNOWN:
        guess = nearest(str(location[-1]), fields) if len(location) == 1 else None
        hint = f"; did you mean {guess!r}?" if guess else "."
        raise InvalidRequest(f"{param}: unknown key{hint}", param=param, code="unknown_parameter")
    if fault_type == _MISSING:
        raise InvalidRequest(f"{param}: this field is required.", param=param, code="missing_parameter")
    text = message.removeprefix("Value error, ")
    if param is None and text.partition(" ")[0] in fields:
        param = text.partition(" ")[0]
    raise InvalidRequest(f"{param}: {text}." if location else f"{text}.", param=param)


def _location(parts: Sequence[int | str], raw: object, fault_type: str) -> list[int | str]:
    """``parts`` without the names that pydantic adds for members of a union: the steps that lead through ``raw``.

    A member's name can also be the name of a field (the tag ``text`` of a part that has a ``text``), so both
    readings are tried; the last step of an unknown field is there, and that of a missing one is not.
    """
    return _way(list(parts), raw, fault_type) or []


def _way(parts: list[int | str], here: Any, fault_type: str) -> list[int | str] | None:  # noqa: ANN401 - any JSON
    if not parts:
        return []
    first, *rest = parts
    if fault_type == _MISSING and not rest:
        return [first] if isinstance(here, dict) and here.get(str(first)) is None else None
    if _has(here, first) and (further := _way(rest, here[first], fault_type)) is not None:
        return [first, *further]
    # An unknown field is always a step of its own.
    return None if fault_type == _UNKNOWN and not rest else _way(rest, here, fault_type)


_UNKNOWN = "extra_forbidden"
_MISSING = "missing"


def _has(here: object, part: int | str) -> bool:
    if isinstance(here, list):
        return isinstance(part, int) and part < len(here)
    return isinstance(here, dict) and part in here
