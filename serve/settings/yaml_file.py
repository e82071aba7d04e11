"""YAML as the group's config files use it: a key that is stated twice is a fault, not a silent loss of the first."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml


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
