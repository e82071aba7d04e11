"""A small web server for the tests of downloads, which behaves as each test needs it to, and badly on purpose."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass
class Page:
    """What one path answers: a status, a body, and headers beside the usual ones."""

    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass
class Site:
    """What a server serves, and what it was asked for.

    Attributes:
        content: the body of every answer.
        ranges: answer a Range header with a part.
        etag: the ETag header.
        length: say how long the body is.
        cuts: for each request in turn, after how many bytes to cut the connection.
        statuses: for each request in turn, the status of an answer with no file in it.
        shift: resume that many bytes away from where it was asked.
        redirect: where to send every request.
        pause: seconds to wait before each piece of the body.
        hold: bytes of the body after which to wait for ``go``.
        go: set to let held answers go on.
        pages: path -> what it answers, in place of ``content`` for every path.
        asked: the path and the headers of each request.
    """

    content: bytes = b""
    ranges: bool = True
    etag: str | None = '"v1"'
    length: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    shift: int = 0
    redirect: str | None = None
    pause: float = 0.0
    hold: int | None = None
    go: Event = field(default_factory=Event)
    pages: dict[str, Page] | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/model.gguf"

    def headers(self, name: str) -> list[str | None]:
        """One header of each request."""
        return [headers.get(name) for _, headers in self.asked]


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is for its failures."""

    def do_GET(self) -> None:
        site = self.site
        site.asked.append((self.path, dict(self.headers)))
        if site.redirect:
            self.send_response(302)
            self.send_header("Location", site.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        page = Page(site.content) if site.pages is None else site.pages.get(self.path)
        if page is None:
            self.send_error(404)
            return
        start = self._start()
        if start > len(page.content):
            self.send_error(416)
            return
        self._head(start, page)
        self._send(page.content[start:], site.cuts.pop(0) if site.cuts else None)

    def _start(self) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in {None, self.site.etag}
        return int(asked[1]) + self.site.shift if asked and same and self.site.ranges else 0

    def _head(self, start: int, page: Page) -> None:
        total = len(page.content)
        if start:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(page.status)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if self.site.length:
            self.send_header("Content-Length", str(total - start))
        if self.site.etag:
            self.send_header("ETag", self.site.etag)
        self.end_headers()

    def _send(self, body: bytes, cut: int | None) -> None:
        body = body if cut is None else body[:cut]
        for at in range(0, len(body), 1 << 16):
            time.sleep(self.site.pause)
            if self.site.hold is not None and at >= self.site.hold:
                self.site.go.wait()
            try:
                self.wfile.write(body[at : at + (1 << 16)])
            except (BrokenPipeError, ConnectionResetError):
                return  # The client is gone: killed by its test, or content with what it has.


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve ``site`` on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    site.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.go.set()
        server.shutdown()
        server.server_close()
        thread.join()
