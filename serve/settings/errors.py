"""What is wrong with a configuration, in lines that name the key and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from serve.settings.suggest import nearest

T = TypeVar("T", bound=BaseModel)


class SettingsError(Exception):
    """A configuration that cannot be used; the message is one line, or one line for each fault."""


def path_of(location: Sequence[int | str]) -> str:
    """A pydantic location as a path: ``('applications', 0, 'name')`` is ``applications[0].name``."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def fault_lines(error: ValidationError, root: type[BaseModel], prefix: str = "") -> list[str]:
    """One line for each fault of ``error``, each naming its key and, for an unknown key, the nearest known one."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        location = list(fault["loc"])
        where = prefix + ("." if prefix and location and isinstance(location[0], str) else "") + path_of(location)
        lines.append(f"{where or 'the file'}: {_sentence(fault['type'], fault['msg'], location, root)}")
    return lines


def parsed(kind: type[T], raw: object, where: str) -> T:
    """``raw``, which stands at ``where``, as a ``kind``.

    Raises:
        SettingsError: one line for each fault.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise SettingsError("\n".join(fault_lines(error, kind, where))) from None


def worded(error: ValidationError, root: type[BaseModel]) -> ValidationError:
    """``error`` with its sentences made, for a validator that raises it on to where ``root`` is not known."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        sentence = _sentence(fault["type"], fault["msg"], fault["loc"], root)
        kind = PydanticCustomError("fault", "{sentence}", {"sentence": sentence})
        faults.append(InitErrorDetails(type=kind, loc=fault["loc"], input=None))
    return ValidationError.from_exception_data(root.__name__, faults, hide_input=True)


def _sentence(kind: str, message: str, location: Sequence[int | str], root: type[BaseModel]) -> str:
    if kind == "extra_forbidden":
        return unknown_key(str(location[-1]), known_keys(root, location[:-1]))
    if kind == "missing":
        return "this key is required"
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def unknown_key(key: str, known: Iterable[str]) -> str:
    """``unknown key; did you mean 'x'? Allowed: a, b``"""
    names = sorted(known)
    guess = nearest(key, names)
    hint = f"did you mean {guess!r}? " if guess else ""
    return f"unknown key; {hint}allowed: {', '.join(names)}" if names else "unknown key"


def known_keys(root: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys of the model that ``location`` leads to from ``root``; empty where the way is not plain."""
    here: list[type[BaseModel]] = [root]
    for part in location:
        if isinstance(part, int):
            continue
        here = [
            nested
            for model in here
            if part in model.model_fields
            for nested in _models_in(model.model_fields[part].annotation)
        ] or [model for model in here if model.__name__ == part]
    return sorted({name for model in here for name in model.model_fields})


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
