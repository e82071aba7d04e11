"""Database URLs."""

from __future__ import annotations

import pytest

from serve.store import Store
from serve.store.engine import parse, sqlite_file


@pytest.mark.parametrize(
    "url", ["sqlite:////data/store.db", "sqlite:///store.db", "postgresql+psycopg://user:word@host:5432/name"]
)
def test_urls_of_both_databases_are_taken(url: str) -> None:
    assert parse(url).render_as_string(hide_password=False) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "store.db",
        "/data/store.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:store?mode=memory&uri=true",
        "postgresql://user:word@host/name",
        "postgresql+asyncpg://user:word@host/name",
        "mysql://user:word@host/name",
        "postgresql+psycopg://user:word@host:port/name",
    ],
)
def test_any_other_url_is_refused_with_an_example_and_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:///FOLDER/FILE\.db") as raised:
        Store(url)
    assert "word@" not in str(raised.value)


def test_only_sqlite_has_a_file() -> None:
    assert str(sqlite_file(parse("sqlite:////data/store.db"))) == "/data/store.db"
    assert sqlite_file(parse("postgresql+psycopg://host/name")) is None


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://user:hunter2@host/name", "postgresql+psycopg://host/name?password=hunter2"]
)
def test_a_store_shows_no_password(url: str) -> None:
    assert "hunter2" not in repr(Store(url))
