"""What went wrong at the other server, as the errors that a client of this group sees."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import orjson

from serve.errors import GroupQwenError, InvalidRequest, RateLimited, UpstreamFailed, UpstreamTimeout
from serve.handlers.upstream.key import Key

#: Longest text of the server's that is passed on.
_LONGEST = 500
#: What the client's request is to blame for.
_REQUEST = frozenset({400, 404, 413, 422})
_A_DAY = 86_400.0
_RETRIED = frozenset({408, 429, *range(500, 600)})


class Faults:
    """Words the errors of one model's server; none of them holds its key."""

    def __init__(self, model: str, key: Key) -> None:
        self._server = f"The server behind {model!r}"
        self._key = key

    def failed(self, what: str) -> UpstreamFailed:
        """It did something wrong: ``The server behind 'x' WHAT.``"""
        return UpstreamFailed(f"{self._server} {what}.")

    def timeout(self, what: str) -> UpstreamTimeout:
        """It took too long."""
        return UpstreamTimeout(f"{self._server} {what}.")

    def of_stream(self, error: object) -> UpstreamFailed:
        """An error object where an answer was expected."""
        text = self._text({"error": error})[0]
        return self.failed(f"broke its answer off with an error: {text}" if text else "broke its answer off")

    def of_status(self, status: int, body: bytes, retry_after: float | None) -> GroupQwenError:
        """An answer that is none."""
        text, code, param = self._text(_parsed(body))
        told = f": {text}" if text else ""
        if status in _REQUEST:
            return InvalidRequest(text or f"{self._server} answered {status}.", code=code, param=param)
        if status in (401, 403):
            # Its text can show parts of the key, and is of no use to a client.
            return UpstreamFailed(
                f"{self._server} does not accept this group's key ({status}); the group's operator must correct it.",
                code="upstream_auth",
            )
        if status == 429:
            return RateLimited(
                f"{self._server} allows no more requests for now{told}",
                code="upstream_rate_limited",
                retry_after=retry_after or 1.0,
            )
        if status in (408, 504):
            return self.timeout(f"took too long ({status})")
        if 300 <= status < 400:
            return self.failed(f"answered {status}, and redirects are not followed; base_url is wrong")
        return self.failed(f"answered {status}{told}")

    def _text(self, found: object) -> tuple[str, str | None, str | None]:
        """Message, code and parameter of an OpenAI error object; empty where there is none."""
        # Some servers send the object itself, or a text in its place.
        error = found.get("error", found) if isinstance(found, dict) else None
        if isinstance(error, str):
            error = {"message": error}
        if not isinstance(error, dict):
            return "", None, None
        message, code, param = (error.get(name) for name in ("message", "code", "param"))
        text = self._key.hidden(" ".join(message.split())) if isinstance(message, str) else ""
        return text[:_LONGEST], _word(code), _word(param)


def _parsed(body: bytes) -> object:
    """The JSON in an error's body; none in others, such as the web page of a proxy, which are not shown."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value.isascii() and value.isprintable() and len(value) <= 100 else None


def is_retried(status: int) -> bool:
    """Whether the same request may succeed a little later."""
    return status in _RETRIED


def seconds_in(retry_after: str | None) -> float | None:
    """A ``Retry-After`` header as seconds from now, at most a day: a number of them, or a date; none where it says
    nothing."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return min(_A_DAY, float(retry_after))
    try:
        return min(_A_DAY, max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time()))
    except (ValueError, OverflowError):
        return None
