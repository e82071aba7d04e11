"""The engine alone: uvicorn and the echo handler, with nothing of Ray and no gateway. One process.

``python -m benchmarks.bare --port PORT`` answers at ``/m/<model>/v1/chat/completions`` with the bytes that a model
replica would send: it reads the request, resolves it and encodes the stream with the same code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import Receive, Scope, Send

from benchmarks import echo
from benchmarks.processes import require_free, server
from serve.errors import NotFound
from serve.handlers.echo import EchoHandler
from serve.protocol.chat import ChatEncoder
from serve.protocol.events import Usage
from serve.protocol.http import Errors, read_body, send_json
from serve.protocol.requests import ChatRequest
from serve.protocol.sampling import SamplingDefaults, resolve
from serve.protocol.validation import parse_json, parse_request
from serve.replica.answers import send_stream

_BODY_BYTES = 1024 * 1024
_READY = "/ready"


class Bare:
    """An ASGI app that streams the echo models' answers."""

    def __init__(self) -> None:
        self._defaults = SamplingDefaults()
        self._handlers = {
            f"/m/{model}/v1/chat/completions": EchoHandler(echo.settings(model)) for model in echo.MODELS
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] == _READY:
            await send_json(send, {"status": "ready"})
            return
        handler = self._handlers.get(scope["path"])
        if handler is None:
            raise NotFound("There is no model at this address.")
        request = parse_request(ChatRequest, parse_json(await read_body(scope, receive, _BODY_BYTES)))
        wants_usage = request.stream_options is not None and request.stream_options.include_usage
        encoder = ChatEncoder(handler.settings.id, request.n, wants_usage)
        await send_stream(send, handler.chat(request, resolve(request, self._defaults)), encoder, _not_counted)


def _not_counted(usage: Usage) -> None:
    """The bare engine keeps no count."""


@contextmanager
def running(port: int, folder: Path) -> Iterator[None]:
    """The bare server on ``port``, until the block ends."""
    require_free(port, "the bare server")
    command = [sys.executable, "-m", "benchmarks.bare", "--port", str(port)]
    with server("the bare server", command, f"http://127.0.0.1:{port}{_READY}", folder / "bare.log"):
        yield


def base_url(port: int, model: str) -> str:
    """Where the bare server answers for ``model``, in OpenAI's API."""
    return f"http://127.0.0.1:{port}/m/{model}/v1"


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare", description="Serve the echo models alone.")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(
        Errors(Bare()),
        host="127.0.0.1",
        port=options.port,
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=90,
    )


if __name__ == "__main__":
    main()
