"""Query strings: plain fields, and ``metadata[key]=value``."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.types import Scope


def query_of(scope: Scope) -> tuple[dict[str, object], dict[str, str]]:
    """The fields of a request's query, and the pairs of metadata that it filters by."""
    fields: dict[str, object] = {}
    metadata: dict[str, str] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name.startswith("metadata[") and name.endswith("]"):
            metadata[name[9:-1]] = value
        else:
            fields[name] = value
    return fields, metadata
