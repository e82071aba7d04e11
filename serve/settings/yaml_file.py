"""YAML as the group's config files use it: a key that is stated twice is a fault, not a silent loss of the first."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from serve.settings.errors import SettingsError, fault_lines

T = TypeVar("T", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, without its tolerance for repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            # A merge key (<<) may come from several anchors, and what it brings may be overridden.
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    place = key.start_mark
                    raise yaml.YAMLError(f"line {place.line + 1} states the key {key.value!r} a second time")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:  # noqa: ANN401 - what a file holds is not known
    """The content of one YAML document.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is not YAML, or states a key twice.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a subclass of the safe loader


def settings_in(path: str, kind: type[T]) -> T:
    """What the file at ``path`` says, as a ``kind``; an empty file says nothing.

    Raises:
        SettingsError: one line for each fault, each naming the file and the key.
    """
    try:
        raw = load_yaml(Path(path).read_text(encoding="utf-8"))
        return kind.model_validate({} if raw is None else raw)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        if not isinstance(raw, dict):
            raise SettingsError(f"{path}: must be a mapping of settings") from None
        raise SettingsError("\n".join(f"{path}: {line}" for line in fault_lines(error, kind))) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
