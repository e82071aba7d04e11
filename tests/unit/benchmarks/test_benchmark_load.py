"""The load client against a small server that answers well or badly."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict

import orjson
import pytest

from benchmarks import machine
from benchmarks.answers import BadAnswer
from benchmarks.load import Load, Run, StreamConnection, share

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TOKENS = [b'data: {"choices":[{"delta":{"content":" %b"}}]}\n\n' % word for word in (b"one", b"two")]
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"

#: What a server writes for one request.
Script = list[bytes]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


GOOD: Script = [HEAD, *map(chunk, [ROLE, *TOKENS, FINISH, DONE]), END]


class Server:
    """Answers each request with a script; notes the requests and how many connections there were."""

    def __init__(self, script: Callable[[int], Script], *, keep: bool) -> None:
        self._script = script
        self._keep = keep
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                self.requests.append(head + await reader.readexactly(length))
                for part in self._script(len(self.requests)):
                    writer.write(part)
                    await writer.drain()
                if not self._keep:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script | Callable[[int], Script], *, keep: bool = True) -> AsyncIterator[Server]:
    server = Server(script if callable(script) else lambda number: script, keep=keep)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


def load(port: int, **changes: object) -> Load:
    wanted: dict[str, object] = {"concurrency": 2, "seconds": 0.2, "warm_up": 0.05, "key": None, **changes}
    return Load(url=f"http://127.0.0.1:{port}/v1", model="echo", text=" one two", **wanted)  # type: ignore[arg-type]


async def failure(script: Script, *, keep: bool = True) -> str:
    async with serving(script, keep=keep) as server:
        with pytest.raises(BadAnswer) as caught:
            await Run(load(server.port)).measure()
    return str(caught.value)


async def test_whole_answers_are_counted_and_timed() -> None:
    async with serving(GOOD) as server:
        sample = await Run(load(server.port)).measure()
    assert 0 < sample.requests <= len(server.requests)
    assert sample.frames == 2
    assert sample.per_second > 0
    assert 0 < sample.first_token_p50 <= sample.first_token_p95
    assert sample.first_token_p50 <= sample.total_p50


async def test_a_worker_keeps_its_connection_where_the_server_does() -> None:
    async with serving(GOOD) as server:
        await Run(load(server.port, concurrency=3)).measure()
    assert server.connections == 3 < len(server.requests)


async def test_a_connection_that_the_server_does_not_keep_is_replaced() -> None:
    closing = [HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), *GOOD[1:]]
    async with serving(closing, keep=False) as server:
        await Run(load(server.port)).measure()
    assert server.connections == len(server.requests) > 2


def test_the_role_frame_is_not_the_first_token() -> None:
    connection = StreamConnection()
    connection.data_received(HEAD + chunk(ROLE))
    assert not connection.first
    connection.data_received(chunk(TOKENS[0]))
    assert connection.first


def test_the_first_token_is_found_when_it_comes_together_with_head_and_role() -> None:
    connection = StreamConnection()
    connection.data_received(HEAD + chunk(ROLE + TOKENS[0]))
    assert connection.first


@pytest.mark.parametrize("cut", range(1, len(chunk(TOKENS[0])) - 15))
def test_the_first_token_is_found_when_its_frame_comes_in_pieces(cut: int) -> None:
    connection = StreamConnection()
    connection.data_received(HEAD)
    connection.data_received(chunk(TOKENS[0])[:cut])
    connection.data_received(chunk(TOKENS[0])[cut:])
    assert connection.first


def test_the_first_token_keeps_its_time_when_more_come() -> None:
    connection = StreamConnection()
    connection.data_received(HEAD + chunk(TOKENS[0]))
    first = connection.first
    connection.data_received(chunk(TOKENS[1]))
    assert connection.first == first


async def test_the_request_names_model_stream_and_key() -> None:
    async with serving(GOOD) as server:
        await Run(load(server.port, key="gq-secret")).measure()
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"Authorization: Bearer gq-secret" in head
    asked = orjson.loads(body)
    assert (asked["model"], asked["stream"]) == ("echo", True)


async def test_a_truncated_answer_fails_the_measurement() -> None:
    assert "4 of 8 characters" in await failure([HEAD, chunk(ROLE), chunk(TOKENS[0]), END])


async def test_an_answer_whose_connection_breaks_fails_the_measurement() -> None:
    assert "broke off" in await failure([HEAD, chunk(TOKENS[0])], keep=False)


async def test_an_error_frame_fails_the_measurement() -> None:
    error = b'data: {"error":{"message":"the model was lost"}}\n\n'
    assert "the model was lost" in await failure([HEAD, chunk(TOKENS[0]), chunk(error), END])


async def test_a_status_that_is_not_200_fails_the_measurement_with_its_body() -> None:
    refused = b"HTTP/1.1 500 Oops\r\ncontent-length: 6\r\n\r\nbroken"
    assert await failure([refused]) == "HTTP 500: broken"


async def test_an_answer_that_is_not_http_fails_the_measurement() -> None:
    assert "not HTTP" in await failure([b"SMTP ready\r\n\r\n"])


async def test_one_bad_answer_among_many_fails_the_measurement() -> None:
    bad = [HEAD, chunk(TOKENS[0]), chunk(FINISH), chunk(DONE), END]
    async with serving(lambda number: bad if number == 5 else GOOD) as server:
        with pytest.raises(BadAnswer, match="4 of 8"):
            await Run(load(server.port)).measure()


async def test_an_answer_that_never_ends_fails_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.load.PATIENCE_SECONDS", 0.1)
    async with serving([HEAD, chunk(TOKENS[0])]) as server:
        with pytest.raises(BadAnswer, match="did not end"):
            await Run(load(server.port)).measure()


async def test_a_server_that_is_not_there_fails_the_measurement() -> None:
    async with serving(GOOD) as server:
        pass
    with pytest.raises(OSError, match=r"[Cc]onnect"):
        await Run(load(server.port)).measure()


@pytest.mark.parametrize(
    ("begun", "ended", "inside"),
    [(1.0, 2.0, 1.0), (0.0, 2.0, 0.5), (4.0, 6.0, 0.5), (0.0, 10.0, 0.4), (6.0, 7.0, 0.0), (0.0, 1.0, 0.0)],
)
def test_a_request_counts_with_its_share_of_the_measured_time(begun: float, ended: float, inside: float) -> None:
    assert share(begun, ended, start=1.0, end=5.0) == inside


async def client(wanted: Load) -> tuple[int | None, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.load",
        cwd=machine.ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(orjson.dumps(asdict(wanted)))
    return process.returncode, out, err


async def test_the_client_process_writes_its_sample_as_json() -> None:
    async with serving(GOOD) as server:
        code, out, _ = await client(load(server.port))
    assert code == 0
    assert orjson.loads(out)["frames"] == 2


async def test_the_client_process_says_in_one_line_why_it_failed() -> None:
    async with serving([HEAD, chunk(TOKENS[0]), END]) as server:
        code, out, err = await client(load(server.port))
    assert (code, out) == (1, b"")
    assert err.count(b"\n") == 1
    assert b"4 of 8 characters" in err
