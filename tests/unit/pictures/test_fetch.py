"""Fetching pictures: only from public addresses, whatever names and redirects say."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from serve.pictures.decode import BadPicture
from serve.pictures.fetch import PictureFetcher, is_public
from serve.settings.pictures import PictureLimits

LIMITS = PictureLimits(file_bytes=2048, fetch_seconds=2, redirects=2)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1",
        "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::7f00:1", "64:ff9b:1::1",
        "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:db8::1", "localhost", "", "0x7f.1",
        "fec0::1", "::127.0.0.1", "::8.8.8.8", "4000::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_the_open_internets_are_told(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_told(address: str) -> None:
    assert is_public(address)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and this machine's loopback addresses, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,DNS:pictures.test,IP:127.0.0.1",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    made.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return made


class Site:
    """A server of this machine with TLS.

    Attributes:
        asked: paths that were asked for, with the request's headers.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.port = 0

    def url(self, path: str, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}{path}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, request.headers))
        match request.path:
            case "/picture":
                return web.Response(body=b"picture", headers={"set-cookie": "a=b"})
            case "/large":
                return web.Response(body=bytes(4096))
            case "/endless":
                endless = web.StreamResponse()
                await endless.prepare(request)
                while True:
                    await endless.write(bytes(512))
            case "/slow":
                await asyncio.sleep(30)
            case "/missing":
                return web.Response(status=404)
            case "/loop":
                raise web.HTTPFound("/loop")
            case "/hop":
                raise web.HTTPFound("/picture")
            case "/inside":
                raise web.HTTPFound("https://169.254.169.254/latest/meta-data")
            case "/plain":
                raise web.HTTPFound("http://localhost/picture")
            case "/file":
                raise web.HTTPFound("file:///etc/passwd")
        return web.Response(status=500)


@pytest_asyncio.fixture
async def site(certificate: Path) -> AsyncIterator[Site]:
    found, context = Site(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    assert site._server is not None
    found.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    yield found
    await runner.cleanup()


def loopback_only(address: str) -> bool:
    """What these tests take for the open internet."""
    return ipaddress.ip_address(address).is_loopback


def fetcher(certificate: Path, allowed: Callable[[str], bool] = loopback_only, **limits: Any) -> PictureFetcher:
    context = ssl.create_default_context(cafile=str(certificate))
    return PictureFetcher(LIMITS.model_copy(update=limits), allowed=allowed, context=context)


async def test_a_picture_is_fetched_and_nothing_of_ours_is_told(site: Site, certificate: Path) -> None:
    assert await fetcher(certificate).fetch(site.url("/hop")) == b"picture"
    assert [path for path, _ in site.asked] == ["/hop", "/picture"]
    for _, headers in site.asked:
        assert "authorization" not in headers and "cookie" not in headers and "referer" not in headers


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/large", "more than 2048 bytes"),
        ("/endless", "more than 2048 bytes"),
        ("/missing", "status 404"),
        ("/loop", "redirects more than 2 times"),
        ("/inside", "not a public one"),
        ("/plain", "not https"),
        ("/file", "not https"),
    ],
)
async def test_what_a_site_answers_wrongly_is_refused(path: str, why: str, site: Site, certificate: Path) -> None:
    with pytest.raises(BadPicture, match=why):
        await fetcher(certificate).fetch(site.url(path))


async def test_a_site_that_hangs_is_given_up(site: Site, certificate: Path) -> None:
    with pytest.raises(BadPicture, match=r"within 0\.2 s"):
        await fetcher(certificate, fetch_seconds=0.2).fetch(site.url("/slow"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "127.1", "2130706433", "0x7f000001"])
async def test_this_machine_is_never_asked(host: str, site: Site) -> None:
    with pytest.raises(BadPicture, match=r"not a public one|cannot be reached"):
        await PictureFetcher(LIMITS).fetch(site.url("/picture", host))
    assert not site.asked


@pytest.mark.parametrize("host", ["127\u30020\u30020\u30021", "\uff11\uff12\uff17.0.0.1", "127\uff610\uff0e0\uff611"])
async def test_an_address_in_other_letters_is_the_same_address(host: str, site: Site, certificate: Path) -> None:
    with pytest.raises(BadPicture, match="not a public one"):
        await fetcher(certificate, is_public).fetch(site.url("/picture", host))
    assert not site.asked


async def test_a_name_is_resolved_once_and_its_address_is_what_is_asked(
    site: Site, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        names.append(host)
        # A name that answers with another address the second time.
        address = "127.0.0.1" if names.count("pictures.test") == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert await fetcher(certificate).fetch(site.url("/picture", "pictures.test")) == b"picture"
    assert names == ["pictures.test"]


async def test_a_name_with_one_inner_address_among_others_is_refused(
    site: Site, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in ("127.0.0.1", "10.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(BadPicture, match="not a public one"):
        await fetcher(certificate).fetch(site.url("/picture", "pictures.test"))
    assert not site.asked


async def test_a_certificate_of_somebody_else_is_refused(site: Site) -> None:
    with pytest.raises(BadPicture, match="cannot be reached over https"):
        await PictureFetcher(LIMITS, allowed=loopback_only).fetch(site.url("/picture"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/a.png", "not https"),
        ("https://user:pass@example.com/a.png", "user name or a password"),
        ("https:///a.png", "not https"),
        ("https://example.com:99999/a.png", "not an address"),
        ("https://exa mple.com/", "not an address"),
        ("https://example.com/" + "a" * 5000, "too long"),
        ("https://[::1", "not an address"),
    ],
)
async def test_addresses_that_are_wrong_by_themselves_are_refused(url: str, why: str) -> None:
    with pytest.raises(BadPicture, match=why):
        await PictureFetcher(LIMITS).fetch(url)


async def test_nothing_is_fetched_where_that_is_turned_off(site: Site, certificate: Path) -> None:
    with pytest.raises(BadPicture, match="send a data URL"):
        await fetcher(certificate, fetch=False).fetch(site.url("/picture"))
    assert not site.asked
