"""The API's reference is made from the code, and is whole."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import pytest_asyncio
from starlette.routing import Route, WebSocketRoute

from serve import __version__
from serve.gateway.openapi import document
from serve.gateway.reference import blocks, markdown, reference_markdown
from serve.gateway.routes import OPERATIONS
from serve.protocol.requests import ChatRequest
from tests.unit.gateway.group import group
from tests.unit.replica.models import HELLO, echo

PAGE = Path(__file__).parents[3] / "docs" / "api.md"


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway."""
    async with group(tmp_path, echo()) as found, found.client() as asking:
        yield asking


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Every place of a document that refers to a schema."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node
        for value in node.values():
            yield from schemas(value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas(value)


def test_the_page_in_the_repository_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference_markdown(), (
        "run: python -m serve.gateway.reference > docs/api.md"
    )


async def test_every_route_is_in_the_document_and_on_the_page(tmp_path: Path) -> None:
    async with group(tmp_path, echo()) as found:
        routes = found.access._app.routes  # type: ignore[attr-defined]
    paths = document(OPERATIONS)["paths"]
    page = reference_markdown()
    assert len(routes) == len(OPERATIONS) + 1
    for route in routes:
        assert f"`{route.path}`" in page
        if isinstance(route, WebSocketRoute):
            continue
        assert isinstance(route, Route) and route.methods
        assert {method.lower() for method in route.methods} - {"head"} <= set(paths[route.path])


def test_the_page_shows_every_field_of_every_body_and_query() -> None:
    sections = {part.partition("\n")[0]: part for part in reference_markdown().split("\n## ")}
    for one in OPERATIONS:
        for kind in filter(None, (one.body, one.query)):
            for name, field in kind.model_fields.items():
                assert f"| `{field.alias or name}` |" in sections[kind.__name__]
    assert "| `stream` | boolean | `false` |" in sections["ChatRequest"]


def test_no_address_has_the_same_method_twice() -> None:
    pairs = [(one.method, one.path) for one in OPERATIONS]
    assert len(set(pairs)) == len(pairs)


def test_the_document_is_openapi() -> None:
    found = document(OPERATIONS)
    assert (found["openapi"], found["info"]["version"]) == ("3.1.0", __version__)
    assert set(found) <= {"openapi", "info", "servers", "paths", "components", "security", "tags"}
    names = [entry["operationId"] for path in found["paths"].values() for entry in path.values()]
    assert len(set(names)) == len(names)
    for path, methods in found["paths"].items():
        for entry in methods.values():
            assert entry["responses"].keys() >= {"200", "default"}
            inside = {one["name"] for one in entry.get("parameters", []) if one["in"] == "path"}
            assert inside == set(re.findall(r"{(\w+)}", path))


def test_every_schema_of_the_document_is_a_json_schema_and_every_reference_leads_to_one() -> None:
    found = document(OPERATIONS)
    known = found["components"]["schemas"]
    for schema in known.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert known.keys() >= {"ChatRequest", "Message", "FeedbackRequest", "Error"}
    for node in schemas(found):
        assert node["$ref"].removeprefix("#/components/schemas/") in known


@pytest.mark.parametrize(
    ("body", "right"),
    [
        (HELLO, True),
        (HELLO | {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}, True),
        (HELLO | {"temperature": 9}, False),
        (HELLO | {"temprature": 1}, False),
        ({"model": "m"}, False),
    ],
)
def test_the_schema_of_a_chat_says_what_the_code_says(body: dict[str, Any], right: bool) -> None:
    found = document(OPERATIONS)
    schema = {**found["components"]["schemas"]["ChatRequest"], "components": found["components"]}
    assert jsonschema.Draft202012Validator(schema).is_valid(body) == right
    try:
        ChatRequest.model_validate(body)
    except ValueError:
        assert not right
    else:
        assert right


async def test_a_running_gateway_serves_the_document_and_the_page(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json() == document(OPERATIONS)
    page = await client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "/v1/chat/completions" in page.text


class Page(HTMLParser):
    """The parts of a page that could be wrong: what it loads, where it links to, which tags stay open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if "href" in found else []
        self.loads += [found["src"] or ""] if "src" in found else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_the_page_is_whole_and_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = Page()
    page.feed((await client.get("/docs")).text)
    assert page.open == [] and page.loads == []
    assert page.links and {link.removeprefix("#") for link in page.links} <= set(page.ids)


def test_every_table_of_the_markdown_has_as_many_cells_in_each_row() -> None:
    tables = [block for block in reference_markdown().split("\n\n") if block.startswith("|")]
    assert len(tables) > 10
    for table in tables:
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_markdown_is_made_of_the_same_blocks() -> None:
    assert markdown(blocks()) == reference_markdown()
    assert reference_markdown().startswith("# API reference\n\n")
    assert reference_markdown().endswith("|\n")
