"""Who may come in."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from serve.gateway import access
from serve.gateway.access import is_loopback
from tests.unit.gateway.group import CHAT, Group, group
from tests.unit.replica.models import HELLO, echo


@pytest_asyncio.fixture
async def open_group(tmp_path: Path) -> AsyncIterator[Group]:
    """A gateway on loopback, where no key is needed."""
    async with group(tmp_path, echo(tokens=3), allowed_origins=("https://chat.example.org",)) as found:
        yield found


@pytest_asyncio.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Group]:
    """A gateway that others can reach, where a key is needed."""
    async with group(tmp_path, echo(tokens=3), key_required=True) as found:
        yield found


class Later:
    """A clock that is ahead."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def monotonic(self) -> float:
        """Seconds since some time."""
        return time.monotonic() + self._seconds


async def post(group: Group, secret: str | None = None, path: str = CHAT, **headers: str) -> httpx.Response:
    """A chat with a key."""
    if secret is not None:
        headers["authorization"] = f"Bearer {secret}"
    async with group.client(**headers) as client:
        return await client.post(path, json=HELLO)


async def made(group: Group, **fields: Any) -> str:
    """The secret of a new key."""
    wanted = {"scopes": ["inference"], "requests_per_minute": None, "tokens_per_minute": None} | fields
    return (await group.store.keys.create("test", **wanted)).secret


def code(answer: httpx.Response) -> tuple[int, str]:
    """An error's status and code."""
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_an_address_of_this_machine_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org", "127.0.0.1.example.org", "127.1"],
)
def test_any_other_address_is_not_taken_for_this_machine(host: str) -> None:
    assert not is_loopback(host)


async def test_no_key_is_needed_on_this_machine(open_group: Group) -> None:
    assert (await post(open_group)).status_code == 200


@pytest.mark.parametrize("value", ["Bearer sk-from-another-service", "Basic dXNlcjpwYXNz", "Bearer", "", "gq-"])
async def test_a_secret_that_is_no_key_of_ours_is_nothing_on_this_machine(open_group: Group, value: str) -> None:
    assert (await post(open_group, authorization=value)).status_code == 200


async def test_a_key_of_ours_must_be_right_even_where_none_is_needed(open_group: Group) -> None:
    assert (await post(open_group, await made(open_group))).status_code == 200
    assert code(await post(open_group, "gq-wrong")) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer sk-a", "Basic gq-a", "gq-a", "Bearer gq-wrong", "Bearer \xff"]
)
async def test_a_key_is_needed_where_others_can_reach_the_group(closed: Group, value: str) -> None:
    async with closed.client() as client:
        answer = await client.post(CHAT, json=HELLO, headers={b"authorization": value.encode("latin-1")})
    assert code(answer) == (401, "invalid_api_key")
    assert not closed.transport.asked


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer  "])
async def test_the_scheme_is_read_in_any_case(closed: Group, scheme: str) -> None:
    assert (await post(closed, authorization=scheme + await made(closed))).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/openapi.json"])
async def test_what_says_nothing_about_the_data_needs_no_key(closed: Group, path: str) -> None:
    async with closed.client() as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/conversations", "/v1/health", "/v1/metrics", "/nothing"])
async def test_everything_else_needs_one(closed: Group, path: str) -> None:
    async with closed.client() as client:
        assert (await client.get(path)).status_code == 401


async def test_a_key_that_has_expired_is_refused(closed: Group) -> None:
    secret = await made(closed, expires_at=datetime.now(UTC) + timedelta(milliseconds=300))
    time.sleep(0.31)
    assert code(await post(closed, secret)) == (401, "invalid_api_key")


async def test_a_key_that_is_revoked_works_only_until_the_store_is_asked_again(
    closed: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = await made(closed)
    assert (await post(closed, secret)).status_code == 200
    (key,) = await closed.store.keys.list()
    await closed.store.keys.revoke(key.id)
    assert (await post(closed, secret)).status_code == 200
    monkeypatch.setattr(access, "time", Later(access.CACHE_SECONDS))
    assert code(await post(closed, secret)) == (401, "invalid_api_key")


async def test_many_wrong_keys_do_not_fill_the_memory(closed: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_CACHE_SIZE", 4)
    for number in range(10):
        await post(closed, f"gq-{number}")
    assert (await post(closed, await made(closed))).status_code == 200
    assert len(closed.access._cache) <= 4


@pytest.mark.parametrize(
    ("scopes", "method", "path", "status"),
    [
        (["inference"], "POST", CHAT, 200),
        (["inference"], "GET", "/v1/conversations", 403),
        (["conversations"], "GET", "/v1/conversations", 200),
        (["conversations"], "POST", CHAT, 403),
        (["conversations"], "POST", "/v1/feedback", 403),
        (["admin"], "POST", CHAT, 403),
        (["conversations"], "GET", "/v1/models", 200),
    ],
)
async def test_a_key_opens_what_its_scopes_name(
    closed: Group, scopes: list[str], method: str, path: str, status: int
) -> None:
    secret = await made(closed, scopes=scopes)
    async with closed.client(authorization=f"Bearer {secret}") as client:
        answer = await client.request(method, path, json=HELLO if method == "POST" else None)
    assert answer.status_code == status
    if status == 403:
        assert "does not have the scope" in answer.json()["error"]["message"]


async def test_a_keys_requests_a_minute_are_held_to(closed: Group) -> None:
    secret, other = await made(closed, requests_per_minute=2), await made(closed)
    assert [(await post(closed, secret)).status_code for _ in range(2)] == [200, 200]
    answer = await post(closed, secret)
    assert code(answer) == (429, "requests_per_minute")
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert (await post(closed, other)).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_keys_tokens_a_minute_are_held_to(closed: Group, stream: bool) -> None:
    secret = await made(closed, tokens_per_minute=4)
    async with closed.client(authorization=f"Bearer {secret}") as client:
        first = await client.post(CHAT, json=HELLO | {"stream": stream})
        second = await client.post(CHAT, json=HELLO)
    assert first.status_code == 200
    assert code(second) == (429, "tokens_per_minute")
    assert 1 <= int(second.headers["retry-after"]) <= 16


async def test_what_a_key_uses_is_counted(closed: Group) -> None:
    secret = await made(closed)
    async with closed.client(authorization=f"Bearer {secret}") as client:
        await client.post(CHAT, json=HELLO)
        await client.post(CHAT, json=HELLO | {"stream": True})
    await closed.usage.close()
    (total,) = await closed.store.usage.totals()
    assert (total.model, total.requests, total.prompt_tokens, total.completion_tokens) == ("m", 2, 2, 6)


@pytest.mark.parametrize("host", ["example.org", "evil.localhost.example.org", "192.168.1.5:8000", "[fe80::1]:8000"])
async def test_without_keys_only_a_name_of_this_machine_is_answered(open_group: Group, host: str) -> None:
    answer = await post(open_group, host=host)
    assert code(answer) == (403, "wrong_host")
    assert not open_group.transport.asked


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"])
async def test_every_name_of_this_machine_is_answered(open_group: Group, host: str) -> None:
    assert (await post(open_group, host=host)).status_code == 200


@pytest.mark.parametrize("host", ["[", "[::1", "[zz]"])
async def test_a_host_that_is_no_address_is_refused(open_group: Group, host: str) -> None:
    assert code(await post(open_group, host=host)) == (403, "wrong_host")


async def test_without_keys_a_peer_elsewhere_is_refused_whatever_it_calls_us(open_group: Group) -> None:
    transport = httpx.ASGITransport(open_group.app, client=("192.168.1.5", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert code(await client.get("/livez")) == (403, "forbidden")


async def test_with_keys_any_peer_and_any_name_will_do(closed: Group) -> None:
    transport = httpx.ASGITransport(closed.app, client=("192.168.1.5", 5000))
    headers = {"authorization": f"Bearer {await made(closed)}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://group.example.org", headers=headers) as client:
        assert (await client.post(CHAT, json=HELLO)).status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost", "https://chat.example.org", ""])
async def test_a_page_of_the_group_or_of_an_allowed_origin_may_call(open_group: Group, origin: str) -> None:
    assert (await post(open_group, origin=origin)).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.org",
        "http://chat.example.org",
        "https://chat.example.org.evil.org",
        "http://localhost:3000",
        "null",
        "http://[",
        "http://\xff",
    ],
)
async def test_a_page_of_any_other_origin_may_not(open_group: Group, origin: str) -> None:
    async with open_group.client() as client:
        answer = await client.post(CHAT, json=HELLO, headers={b"origin": origin.encode("latin-1")})
    assert code(answer) == (403, "wrong_origin")
    assert not open_group.transport.asked


async def test_a_page_elsewhere_may_not_call_with_a_key_either(closed: Group) -> None:
    answer = await post(closed, await made(closed), origin="https://evil.example.org")
    assert code(answer) == (403, "wrong_origin")
