"""``python -m serve.keys``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import serve
from serve.keys import main
from serve.store import Key, Scope, Store


def found(database_url: str, secret: str) -> Key | None:
    async def find() -> Key | None:
        async with Store(database_url) as store:
            return await store.keys.find(secret)

    return asyncio.run(find())


def created(database_url: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Make a key and return its secret: all of standard output but its newline."""
    assert main(["create", "page", *options, "--database", database_url]) == 0
    return capsys.readouterr().out.removesuffix("\n")


def test_create_prints_a_secret_that_works(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = found(database_url, created(database_url, capsys))
    assert key is not None
    assert key.name == "page"
    assert key.scopes == {Scope.INFERENCE, Scope.CONVERSATIONS}
    assert (key.requests_per_minute, key.tokens_per_minute, key.expires_at) == (None, None, None)


def test_create_takes_scopes_limits_and_an_expiry(sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--scopes", "admin,inference", "--requests-per-minute=5", "--tokens-per-minute=1000", "--expires=30d"]
    key = found(sqlite_url, created(sqlite_url, capsys, *options))
    assert key is not None and key.expires_at is not None
    assert key.scopes == {Scope.ADMIN, Scope.INFERENCE}
    assert (key.requests_per_minute, key.tokens_per_minute) == (5, 1000)
    assert timedelta(days=29) < key.expires_at - datetime.now(UTC) <= timedelta(days=30)


def test_a_revoked_key_no_longer_works_and_the_list_says_so(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, dropped = created(sqlite_url, capsys), created(sqlite_url, capsys)
    key = found(sqlite_url, dropped)
    assert key is not None
    assert main(["revoke", key.id, "--database", sqlite_url]) == 0
    assert found(sqlite_url, dropped) is None and found(sqlite_url, kept) is not None
    capsys.readouterr()
    assert main(["list", "--database", sqlite_url]) == 0
    listed = capsys.readouterr().out
    assert [line.split("\t")[-1].split()[0] for line in listed.splitlines()] == ["valid", "revoked"]
    assert kept not in listed and dropped not in listed


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", " "],
        ["create", "page", "--scopes", "root"],
        ["create", "page", "--requests-per-minute", "0"],
        ["revoke", "key_unknown"],
    ],
)
def test_a_refused_command_says_why_and_fails(
    sqlite_url: str, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main([*arguments, "--database", sqlite_url]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.out == ""


def test_a_wrong_database_is_an_error_that_shows_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--database", "mysql://user:hunter2@host/name"]) == 1
    printed = capsys.readouterr()
    assert "postgresql+psycopg://" in printed.err and "hunter2" not in printed.err


def test_the_database_is_the_environments_unless_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GROUPQWEN_")}
    done = subprocess.run(
        [sys.executable, "-m", "serve.keys", "create", "page"],
        cwd=Path(serve.__file__).parent.parent,
        env=environment | {"GROUPQWEN_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    secret = done.stdout.strip()
    assert secret.startswith("gq-") and secret not in done.stderr
    assert found(f"sqlite:///{home}/groupqwen.db", secret) is not None
