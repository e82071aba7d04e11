"""Who may come in: API keys, the origin of web pages, and the rule that loopback alone needs no key."""

from __future__ import annotations

import ipaddress
import time
from functools import lru_cache, partial
from urllib.parse import SplitResult, urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.errors import Forbidden, Unauthorized
from serve.gateway.caller import GROUP, LOCAL, Caller
from serve.gateway.limits import RateLimits
from serve.protocol.http import header
from serve.replica.asgi import is_internal
from serve.store import Key, Store

#: Addresses that say nothing about the group's data.
OPEN_PATHS = frozenset({"/livez", "/readyz", "/docs", "/openapi.json", "/"})
KEY_PREFIX = "gq-"
#: How long a key's record is believed before the store is asked again: a revoked key works this much longer at most.
CACHE_SECONDS = 5.0
_CACHE_SIZE = 4096


@lru_cache
def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address, no port) is this machine for certain."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Access:
    """ASGI middleware that finds the caller, or refuses.

    Args:
        token: the internal token, which tasks of the group show in place of a key.
        key_required: true when the group listens on an address other than loopback.
    """

    def __init__(
        self,
        app: ASGIApp,
        store: Store,
        limits: RateLimits,
        token: str,
        *,
        key_required: bool,
        allowed_origins: list[str],
    ) -> None:
        self._app = app
        self._token = token
        self._store = store
        self._limits = limits
        self._key_required = key_required
        self._origins = frozenset(allowed_origins)
        self._cache: dict[str, tuple[Key | None, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in as somebody's."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        self._check_place(scope)
        if scope["path"] not in OPEN_PATHS:
            scope["state"]["admit"] = partial(self._caller, scope)
            scope["state"]["caller"] = await self._caller(scope)
        await self._app(scope, receive, send)

    def _check_place(self, scope: Scope) -> None:
        """Refuse peers, hosts and web pages from which nobody should call an open server on this machine."""
        host = _split(b"//" + (header(scope, b"host") or b""), "host")
        if not self._key_required:
            client = scope.get("client")
            if client is not None and not is_loopback(client[0]):
                raise Forbidden("Without API keys this server answers its own machine only.")
            # A page that rebinds its own name to 127.0.0.1 would be same-origin; its Host header gives it away.
            if host.hostname is not None and not is_loopback(host.hostname):
                raise Forbidden("Without API keys this server answers to localhost only.", code="wrong_host")
        origin = header(scope, b"origin") or b""
        foreign = origin.decode("latin-1") not in self._origins
        if origin and foreign and _split(origin, "origin").netloc != host.netloc:
            raise Forbidden("Pages of this origin may not call the API; see allowed_origins.", code="wrong_origin")

    async def _caller(self, scope: Scope) -> Caller:
        if is_internal(scope, self._token):
            return GROUP
        scheme, _, secret = (header(scope, b"authorization") or b"").decode("latin-1").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret.startswith(KEY_PREFIX):
            if self._key_required:
                raise Unauthorized("Send an API key of this group: `Authorization: Bearer gq-...`.")
            return LOCAL
        key = await self._find(secret)
        if key is None:
            raise Unauthorized("This API key is not valid, has expired or was revoked.")
        scope["state"]["key_id"] = key.id
        self._limits.take_request(key.id, key.requests_per_minute, key.tokens_per_minute)
        return Caller(key.id, frozenset(key.scopes), key.id)

    async def _find(self, secret: str) -> Key | None:
        now = time.monotonic()
        found = self._cache.get(secret)
        if found is not None and found[1] > now:
            return found[0]
        key = await self._store.keys.find(secret)
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[secret] = (key, now + CACHE_SECONDS)
        return key


@lru_cache
def _split(address: bytes, what: str) -> SplitResult:
    try:
        return urlsplit(address.decode("latin-1"))
    except ValueError:
        raise Forbidden(f"The header {what!r} holds no address.", code=f"wrong_{what}") from None
