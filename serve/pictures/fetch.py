"""Pictures from https addresses, fetched so that nobody can make the group reach into its own network.

Each host name is resolved once, every address that it has must be a public one, and the connection goes to one of
just these: a name that answers differently the next time changes nothing. Redirects are followed by hand and checked
the same way. No proxy, no cookies, no credentials, no compression.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from serve.pictures.decode import BadPicture, check_bytes
from serve.settings.pictures import PictureLimits

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: All of IPv6 that is handed out to the open internet (RFC 4291, 2.4); ``is_global`` says yes to some of the rest.
_UNICAST = ipaddress.IPv6Network("2000::/3")
#: IPv6 addresses that stand for IPv4 ones behind a translator (RFC 6052, RFC 8215).
_TRANSLATED = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_URL = 4096


class _Refused(OSError):
    """A host's address is not public."""


def is_public(text: str) -> bool:
    """Whether an IP address is one of the open internet's, however it is written."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _TRANSLATED):
            return False
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is not None:
            return is_public(str(inner))
        if address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast


class PictureFetcher:
    """Fetches files from https addresses.

    Args:
        allowed: tells whether an IP address may be connected to.
        context: what certificates are checked with; the system's authorities where it is left out.
    """

    def __init__(
        self,
        limits: PictureLimits,
        *,
        allowed: Callable[[str], bool] = is_public,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        self._allowed = allowed
        self._context = context

    async def fetch(self, url: str) -> bytes:
        """The file at ``url``.

        Raises:
            BadPicture: it may not be fetched, cannot be, is too large, or takes too long.
        """
        if not self._limits.fetch:
            raise BadPicture("pictures are not fetched from addresses here; send a data URL")
        try:
            async with asyncio.timeout(self._limits.fetch_seconds):
                return await self._follow(url)
        except TimeoutError:
            raise BadPicture(f"its address did not answer within {self._limits.fetch_seconds:g} s") from None
        except _Refused as refused:
            raise BadPicture(str(refused)) from None
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            if isinstance(failure, aiohttp.ClientConnectorError) and isinstance(failure.os_error, _Refused):
                raise BadPicture(str(failure.os_error)) from None
            raise BadPicture("its address cannot be reached over https") from None

    async def _follow(self, url: str) -> bytes:
        connector = aiohttp.TCPConnector(
            resolver=_Checked(self._allowed), ssl=self._context or True, use_dns_cache=False, force_close=True
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"accept": "image/*", "accept-encoding": "identity", "user-agent": "groupqwen"},
        ) as session:
            for _ in range(self._limits.redirects + 1):
                # What is checked is what is connected to: other parsers may see another host in the same text.
                address = self._checked(url)
                async with session.get(address, allow_redirects=False) as answer:
                    if answer.status not in _REDIRECTS:
                        return await self._read(answer)
                    url = str(address.join(URL(answer.headers.get("location", ""))))
        raise BadPicture(f"its address redirects more than {self._limits.redirects} times")

    def _checked(self, text: str) -> URL:
        """The address in ``text``, once what can be told from it alone is right; names are checked when they are
        resolved."""
        if len(text) > _MAX_URL or not text.isprintable() or " " in text:
            raise BadPicture(_NO_ADDRESS)
        try:
            url = URL(text)
            host = url.raw_host
        except ValueError:
            raise BadPicture(_NO_ADDRESS) from None
        if url.scheme != "https" or not host:
            raise BadPicture("its address is not https")
        if url.raw_user is not None or url.raw_password is not None:
            raise BadPicture("its address holds a user name or a password")
        # aiohttp connects to an address that is written out without asking the resolver.
        if _is_address(host) and not self._allowed(host):
            raise _Refused(_PRIVATE)
        return url

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        if answer.status != 200:
            raise BadPicture(f"its address answers with status {answer.status}")
        check_bytes(answer.content_length or 0, self._limits)
        content = bytearray()
        async for piece in answer.content.iter_chunked(64 * 1024):
            content += piece
            check_bytes(len(content), self._limits)
        return bytes(content)


_PRIVATE = "its address is not a public one"
_NO_ADDRESS = "its address is too long or not an address"


class _Checked(AbstractResolver):
    """Resolves names, and refuses those that have an address which may not be connected to."""

    def __init__(self, allowed: Callable[[str], bool]) -> None:
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of ``host``, to which the connection then goes."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
        )
        addresses = [(str(address[0]), kind) for kind, _, _, _, address in found]
        if not addresses or not all(self._allowed(address) for address, _ in addresses):
            raise _Refused(_PRIVATE)
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=numeric)
            for address, kind in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
