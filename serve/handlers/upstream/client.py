"""The connection to the other server: requests, retries before the first byte, time limits, size limits."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import aiohttp
import orjson

from serve.errors import GroupQwenError, Unavailable, UpstreamFailed
from serve.handlers.upstream.breaker import Breaker, Call, CircuitOpen
from serve.handlers.upstream.faults import Faults, is_retried, seconds_in
from serve.handlers.upstream.key import Key
from serve.settings.errors import SettingsError
from serve.settings.upstream import UpstreamEngine

logger = logging.getLogger(__name__)

#: Idle connections are closed before most servers close theirs; a request on one that is just closing would fail.
_KEEP_SECONDS = 15.0
#: How much of an error's body is read.
_ERROR_BYTES = 64 * 1024
#: How long the end of a stream may take to come after its end mark before the connection is given up.
_END_SECONDS = 0.2
#: What aiohttp raises where a connection is lost or closed from this side.
_LOST = (aiohttp.ClientError, ConnectionError, RuntimeError)


class _Retryable(Exception):
    """Failed before the first byte, in a way that may pass."""

    def __init__(self, error: GroupQwenError, retry_after: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.retry_after = retry_after


class Client:
    """Connections to one server, used by one event loop.

    Args:
        model: the model's id in this group, for messages.

    Raises:
        SettingsError: ``ca_file`` cannot be used.
    """

    def __init__(self, model: str, settings: UpstreamEngine, key: Key) -> None:
        self.faults = Faults(model, key)
        self._model = model
        self._settings = settings
        self._key = key
        self._loop = asyncio.get_running_loop()
        self.breaker = Breaker(settings.breaker, self._loop.time)
        self._tls = _tls(settings)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.max_connections, keepalive_timeout=_KEEP_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.timeouts.connect),
            headers={"User-Agent": "groupqwen", **settings.headers, "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close every connection, those in use too."""
        await self._session.close()

    async def ask(self, path: str, body: dict[str, Any]) -> Answer:
        """Post ``body`` and wait for the first byte of an answer.

        Raises:
            GroupQwenError: there is none, or an error in its place.
        """
        data = orjson.dumps(body)
        deadline = self._loop.time() + self._settings.timeouts.total
        attempt = 0
        while True:
            call = self._enter()
            try:
                return await self._attempt(path, data, call, deadline)
            except _Retryable as failure:
                attempt += 1
                pause = self._pause(attempt, failure.retry_after)
                self.note(failure.error, failure.__cause__, attempt)
                if pause is None or self.breaker.open or self._loop.time() + pause >= deadline:
                    raise failure.error from failure.__cause__
            finally:
                # An answer that goes on ends its call itself; whatever else ended here and was not counted is not.
                if not call.begun:
                    call.given_up()
            await asyncio.sleep(pause)

    def note(self, error: GroupQwenError, cause: BaseException | None, attempt: int = 1) -> None:
        """Log a failure of the server, without its words, which may repeat a prompt."""
        reason = None if cause is None else f"{type(cause).__name__}: {cause}"[:300]
        about = {"model": self._model, "status": error.status, "code": error.code, "attempt": attempt}
        logger.warning("the server behind a model failed", extra={**about, "reason": reason})

    def _enter(self) -> Call:
        try:
            return self.breaker.enter()
        except CircuitOpen as refused:
            raise Unavailable(
                f"The server behind {self._model!r} has failed again and again and is left alone for a while.",
                code="upstream_unavailable",
                retry_after=max(1.0, refused.seconds),
            ) from None

    async def _attempt(self, path: str, data: bytes, call: Call, deadline: float) -> Answer:
        settings, faults = self._settings, self.faults
        headers = {"Content-Type": "application/json"}
        if (key := self._key.current()) is not None:
            headers["Authorization"] = f"Bearer {key}"
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(min(settings.timeouts.first_byte, max(0.0, deadline - self._loop.time()))):
                response = await self._session.post(
                    settings.base_url + path,
                    data=data,
                    headers=headers,
                    allow_redirects=False,
                    ssl=self._tls,
                    proxy=settings.proxy,
                )
                if response.status != 200:
                    await self._refused(response, call)
                first = await _some(response.content)
            if not first:
                raise aiohttp.ClientPayloadError("no body")
            return Answer(self, response, first, call, deadline)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise self._failed(
                call, faults.failed("has a TLS certificate or protocol that is refused"), error
            ) from error
        except (aiohttp.ConnectionTimeoutError, aiohttp.SocketTimeoutError) as error:
            call.failed()
            raise _Retryable(faults.timeout("does not take connections in time")) from error
        except aiohttp.ClientResponseError as error:
            raise self._failed(call, faults.failed("does not speak HTTP as it should"), error) from error
        except _LOST as error:
            call.failed()
            raise _Retryable(faults.failed("cannot be reached, or closed the connection")) from error
        except TimeoutError as error:
            raise self._failed(call, faults.timeout("sent no answer in time"), error) from error
        finally:
            if response is not None and not call.begun:
                response.close()

    def _failed(self, call: Call, error: UpstreamFailed, cause: BaseException) -> UpstreamFailed:
        """``error``, counted and logged."""
        call.failed()
        self.note(error, cause)
        return error

    async def _refused(self, response: aiohttp.ClientResponse, call: Call) -> None:
        """Raise the error that a status other than 200 is."""
        status = response.status
        retry_after = seconds_in(response.headers.get("Retry-After"))
        body = b""
        while len(body) < _ERROR_BYTES and (part := await _some(response.content)):
            body += part
        error = self.faults.of_status(status, body, retry_after)
        if error.code == "upstream_auth":
            logger.error(
                "the server does not accept the key; correct what key_env or key_file names",
                extra={"model": self._model, "status": status},
            )
        # A server that says no, or not now, is alive; one that says that it failed is counted as failed.
        if status >= 500 or status == 408:
            call.failed()
        elif status != 429:
            call.succeeded()
        if is_retried(status):
            raise _Retryable(error, retry_after)
        raise error

    def _pause(self, attempt: int, retry_after: float | None) -> float | None:
        """Seconds before the next attempt; none where there is to be none."""
        retries = self._settings.retries
        if attempt > retries.count or (retry_after or 0.0) > retries.longest:
            return None
        longest = min(retries.longest, retries.backoff * 2 ** (attempt - 1))
        # Clients that failed together must not come back together.
        return max(retry_after or 0.0, random.uniform(longest / 2, longest))  # noqa: S311 - no secret


class Answer:
    """An answer whose first byte is here. It must be closed.

    Attributes:
        is_stream: whether its body is a stream of events; else it is one JSON object.

    Raises:
        UpstreamFailed: its body is of another kind.
    """

    def __init__(
        self, client: Client, response: aiohttp.ClientResponse, first: bytes, call: Call, deadline: float
    ) -> None:
        kind = response.content_type
        self.is_stream = kind == "text/event-stream"
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity" or not (self.is_stream or kind.endswith("json")):
            call.failed()
            what = kind if encoding == "identity" else f"{encoding} encoding, which was not asked for"
            fault = client.faults.failed(f"answered with {what[:100]}")
            client.note(fault, None)
            raise fault
        call.answering()
        self._client = client
        self._response = response
        self._first = first
        self._call = call
        self._deadline = deadline

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, as it comes.

        Raises:
            UpstreamFailed, UpstreamTimeout: it breaks off, stalls, or is too large.
        """
        limit = self._client._settings.max_answer_bytes
        size, chunk = 0, self._first
        while chunk:
            size += len(chunk)
            if size > limit:
                raise self.broken(f"sent more than {limit} bytes")
            yield chunk
            chunk = await self._next()

    async def whole(self) -> bytes:
        """All of the body. Raises as ``chunks`` does."""
        async with aclosing(self.chunks()) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def finish(self) -> None:
        """Everything that was wanted is here: count it as a success, and keep the connection where it can be."""
        self._call.succeeded()
        content = self._response.content
        try:
            async with asyncio.timeout(_END_SECONDS):
                while not content.at_eof() and await _some(content):
                    pass
        except (TimeoutError, *_LOST):
            return  # The answer is whole; its connection is closed with it.

    def broken(self, what: str, cause: BaseException | None = None) -> UpstreamFailed:
        """The error of an answer that cannot be used, counted against the server and logged."""
        return self._failed(self._client.faults.failed(what), cause)

    def error(self, error: object) -> UpstreamFailed:
        """The error of an answer that is an error object, counted against the server and logged."""
        return self._failed(self._client.faults.of_stream(error), None)

    def close(self) -> None:
        """Let go of the answer; what has not come yet is cut off at once."""
        self._call.given_up()
        # A connection whose answer was taken whole is back in the pool already.
        self._response.close()

    async def _next(self) -> bytes:
        timeouts, loop = self._client._settings.timeouts, self._client._loop
        wait = min(timeouts.between_bytes, max(0.0, self._deadline - loop.time()))
        try:
            async with asyncio.timeout(wait):
                return await _some(self._response.content)
        except TimeoutError as error:
            fault = self._client.faults.timeout("stopped in the middle of its answer")
            raise self._failed(fault, error) from error
        except _LOST as error:
            raise self.broken("broke its answer off", error) from error

    def _failed(self, error: UpstreamFailed, cause: BaseException | None) -> UpstreamFailed:
        self._call.failed()
        self._client.note(error, cause)
        return error


async def _some(content: aiohttp.StreamReader) -> bytes:
    """The bytes that are there next; none at the end."""
    try:
        return await content.readany()
    except RuntimeError:
        # aiohttp's answer while a connection closes; a moment later it knows whether that was the end of the body.
        await asyncio.sleep(0)
        return await content.readany()


def _tls(settings: UpstreamEngine) -> ssl.SSLContext | bool:
    """What aiohttp checks certificates by."""
    if not settings.tls_verify:
        logger.warning("certificates are not checked", extra={"server": settings.base_url})
        return False
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"ca_file {settings.ca_file}: {error.strerror or error}") from error
