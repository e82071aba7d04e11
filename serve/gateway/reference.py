"""The API's reference for people: the same blocks as a page at ``/docs`` and as Markdown in ``docs/api.md``.

``python -m serve.gateway.reference > docs/api.md`` writes the latter.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from serve.gateway.openapi import document
from serve.gateway.routes import CHAT_SOCKET, OPERATIONS
from serve.protocol.http import send_bytes, send_json

Json = dict[str, Any]


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Table:
    """A table; cells may hold `code` and [links](to)."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


#: A heading, a paragraph of text, or a table.
Block = Heading | str | Table


def blocks() -> list[Block]:
    """The whole reference."""
    rows = [(one.method, f"`{one.path}`", one.summary, one.answer) for one in OPERATIONS]
    rows.append(("WS", f"`{CHAT_SOCKET}`", "Many chats at once on one socket.", "messages; see the page WebSocket"))
    found: list[Block] = [
        Heading(1, "API reference"),
        "Made from the code. A running group serves it at `/docs`, and as an OpenAPI document at `/openapi.json`.",
        Table(("method", "address", "what it does", "answer"), tuple(rows)),
    ]
    schemas: Json = document(OPERATIONS)["components"]["schemas"]
    schemas |= {one.query.__name__: one.query.model_json_schema() for one in OPERATIONS if one.query is not None}
    for name in sorted(schemas):
        found += [Heading(2, name), *_described(schemas[name])]
    return found


def _described(schema: Json) -> list[Block]:
    """A schema as a paragraph and a table of its fields."""
    text = " ".join(schema.get("description", "").split()).replace("``", "`")
    required = set(schema.get("required", ()))
    rows = []
    for name, field in schema.get("properties", {}).items():
        default = field.get("default")
        shown = "required" if name in required else "" if default is None else f"`{json.dumps(default)}`"
        rows.append((f"`{name}`", _type(field), shown))
    found: list[Block] = [text] if text else []
    return [*found, Table(("field", "type", "default"), tuple(rows))] if rows else found


def _type(field: Json) -> str:
    """A field's type in a few words, with its bounds."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    options = field.get("anyOf") or field.get("oneOf")
    if options:
        return " or ".join(_type(one) for one in options if one.get("type") != "null")
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    bounds = [f"{words} {field[key]}" for key, words in _BOUNDS if key in field]
    return " ".join([str(field.get("type", "any")), *bounds])


_BOUNDS = (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"), ("exclusiveMaximum", "below"))


def markdown(found: Sequence[Block]) -> str:
    """The blocks as Markdown."""
    parts = []
    for block in found:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {block.text}")
        elif isinstance(block, Table):
            rows = [block.head, tuple("---" for _ in block.head), *block.rows]
            parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
        else:
            parts.append(block)
    return "\n\n".join(parts) + "\n"


def reference_markdown() -> str:
    """The whole reference as Markdown."""
    return markdown(blocks())


def page(found: Sequence[Block]) -> str:
    """The blocks as one HTML page that needs nothing from elsewhere."""
    parts = []
    for block in found:
        if isinstance(block, Heading):
            parts.append(
                f'<h{block.level} id="{html.escape(block.text.lower())}">{_inline(block.text)}</h{block.level}>'
            )
        elif isinstance(block, Table):
            head = "".join(f"<th>{_inline(cell)}</th>" for cell in block.head)
            rows = "".join(
                "<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in block.rows
            )
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
        else:
            parts.append(f"<p>{_inline(block)}</p>")
    return _PAGE.format(body="\n".join(parts))


def _inline(text: str) -> str:
    """Text with its `code` and [links](to) as HTML."""
    escaped = html.escape(text)
    linked = re.sub(r"\[([^]]+)\]\((#[^)]+)\)", r'<a href="\2">\1</a>', escaped)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", linked)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>GroupQwen API</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; display: block; overflow-x: auto; }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #8884; }}
code {{ font: .9em ui-monospace, monospace; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


class Reference:
    """Serves the reference, which is made once, when the gateway starts."""

    def __init__(self) -> None:
        self._document = document(OPERATIONS)
        self._page = page(blocks()).encode()

    async def openapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The OpenAPI document."""
        await send_json(send, self._document)

    async def docs(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The page."""
        await send_bytes(send, self._page, content_type=b"text/html; charset=utf-8")


if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
