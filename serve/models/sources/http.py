"""Download over HTTP: resumed where it was cut, tried again when that makes sense, given up quickly when not."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import quote, urlsplit, urlunsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import ReadTimeoutError

from serve import __version__
from serve.models.errors import Interrupted, SourceFailed
from serve.models.partial import PartialFile
from serve.models.sources.retry import with_tries

#: Bytes taken at a time; what a cut connection can lose of what came.
_CHUNK = 1 << 16
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0


class _Bearer(AuthBase):
    """The token as a header. Given as ``auth`` so that a .netrc entry for the host does not replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class HttpSource:
    """A file at an http or https address, or a folder of files below one.

    Args:
        url: the address; may hold secrets.
        token: sent to the address's own host and to no other that it redirects to.

    Attributes:
        label: the host, for messages.
        address: ``url`` with no secrets in it.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.label = urlsplit(bare(url)).netloc
        self.address = bare(url)
        self._url = url
        self._auth = _Bearer(token) if token else None

    def extra_space(self, size: int) -> int:
        """Bytes of disk that a download of files of this size takes beside them."""
        return 0

    def fill(self, part: PartialFile, note: Callable[[str], None]) -> None:
        """Append what is missing.

        Raises:
            SourceFailed: the host cannot be reached, refuses, or failed three times.
        """
        with requests.Session() as session:
            with_tries(lambda: self._try(session, part), self.label, note)

    def url_of(self, name: str) -> str:
        """The address of a file; ``name`` is empty where the source is one file."""
        return below(self._url, name)

    def refusal(self, response: requests.Response) -> str:
        """What an answer means that is neither a file nor worth another try."""
        return answered(response)

    def inspect(self, response: requests.Response, part: PartialFile) -> None:
        """Raise ``SourceFailed`` when an answer tells that the file is not the one that is wanted."""

    def _try(self, session: requests.Session, part: PartialFile) -> None:
        url = self.url_of(part.wanted.name)
        with self._ask(session, url, self._headers(url, part)) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:
                part.restart()
                raise Interrupted("the download cannot be resumed (416)")
            self._refuse_errors(response)
            self.inspect(response, part)
            _line_up(response, part)
            part.comes_from(bare(url), _strong_etag(response))
            for chunk in _chunks(response, part):
                part.write(chunk)
        if part.size < part.wanted.bytes:
            raise Interrupted(f"the answer ended after {part.size} of {part.wanted.bytes} bytes")

    def _headers(self, url: str, part: PartialFile) -> dict[str, str]:
        if not part.size:
            return {}
        headers = {"Range": f"bytes={part.size}-"}
        origin = part.origin()
        if origin is not None and origin.source == bare(url) and origin.etag:
            headers["If-Range"] = origin.etag
        return headers

    def _ask(self, session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
        # Compressed, the bytes on the wire would not be those of the file, and could not be resumed.
        always = {"Accept-Encoding": "identity", "User-Agent": f"groupqwen/{__version__}"}
        try:
            return session.get(
                url,
                headers={**always, **headers},
                auth=self._auth,
                stream=True,
                timeout=(_CONNECT_SECONDS, _READ_SECONDS),
            )
        except requests.RequestException as failure:
            # Not chained: these exceptions carry the address, and with it its secrets.
            raise SourceFailed(_reason(failure)) from None

    def _refuse_errors(self, response: requests.Response) -> None:
        """Raise for every status but 200 and 206."""
        status = response.status_code
        if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            return
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Interrupted(answered(response), _retry_after(response))
        raise SourceFailed(self.refusal(response))


def bare(url: str) -> str:
    """An address without what may be secret: a name and password, or a signature in the query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def below(url: str, name: str) -> str:
    """The address of a file below ``url``; its own when ``name`` is empty."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}")) if name else url


def answered(response: requests.Response) -> str:
    """An answer's status as a sentence."""
    return f"answered {response.status_code} {response.reason}".rstrip()


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that an answer asks to wait: a number, or a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _line_up(response: requests.Response, part: PartialFile) -> None:
    """Make sure that the answer's bytes follow on those that are here, and that the file has the right size."""
    total: int | None = None
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != part.size:
            part.restart()
            raise Interrupted("the server resumed at another place than asked")
        total = None if found[2] == "*" else int(found[2])
    else:
        if part.size:
            part.restart()
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and "Content-Encoding" not in response.headers:
            total = int(length)
    if total is not None and total != part.wanted.bytes:
        raise SourceFailed(f"the file there has {total} bytes, expected {part.wanted.bytes}")


def _chunks(response: requests.Response, part: PartialFile) -> Iterator[bytes]:
    try:
        yield from response.iter_content(_CHUNK)
    except requests.RequestException as failure:
        stalled = bool(failure.args) and isinstance(failure.args[0], ReadTimeoutError)
        why = f"no data for {_READ_SECONDS:.0f} s" if stalled else "the connection was cut"
        raise Interrupted(f"{why} after {part.size} of {part.wanted.bytes} bytes") from None


def _strong_etag(response: requests.Response) -> str | None:
    """The answer's ETag; a weak one cannot be used in If-Range (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else None


def _reason(failure: requests.RequestException) -> str:
    """Why no answer came, with nothing of the address in it."""
    if isinstance(failure, requests.exceptions.ProxyError):
        return "no connection to the proxy"
    if isinstance(failure, requests.exceptions.SSLError):
        cause = _find(failure, ssl.SSLError)
        detail = getattr(cause, "verify_message", None) or getattr(cause, "reason", None)
        return f"TLS failed: {detail}" if detail else "TLS failed"
    if isinstance(failure, requests.ConnectTimeout):
        return f"no connection within {_CONNECT_SECONDS:.0f} s"
    if isinstance(failure, requests.ReadTimeout):
        return f"no answer within {_READ_SECONDS:.0f} s"
    if isinstance(failure, requests.ConnectionError):
        if _find(failure, socket.gaierror):
            return "no connection (its name does not resolve)"
        if _find(failure, ConnectionRefusedError):
            return "no connection (refused)"
        return "no connection"
    return f"the request failed ({type(failure).__name__})"


def _find(failure: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The first exception of ``kind`` among those that led to ``failure``."""
    seen: BaseException | None = failure
    while seen is not None and not isinstance(seen, kind):
        seen = seen.__cause__ or seen.__context__
    return seen
