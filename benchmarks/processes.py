"""Starts the servers that are measured, waits until they answer, and ends them with all their children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

from benchmarks.errors import BenchmarkError
from benchmarks.machine import ROOT
from serve.launch.ray_node import port_open

READY_SECONDS = 180.0
_END_SECONDS = 10.0


def say(text: str) -> None:
    """One line of progress, on standard error: standard output is for results."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def require_free(port: int, what: str) -> None:
    """Raise ``BenchmarkError`` when ``port``, which ``what`` needs, is taken."""
    if port_open(port):
        raise BenchmarkError(f"port {port}, which {what} needs, is taken by another process")


@contextmanager
def server(
    name: str, command: Sequence[str], ready_url: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run ``command`` until the block ends; enter the block once ``ready_url`` answers with 200.

    Raises:
        BenchmarkError: it ended, or did not answer in time; names its log.
    """
    say(f"starting {name}")
    with log.open("w") as output:
        # A session of its own: Ctrl-C reaches the benchmark alone, which then ends its servers in order.
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        _wait_ready(process, ready_url, f"{name} did not start; its output is in {log}")
        yield
    finally:
        _end(process)


def _wait_ready(process: subprocess.Popen[bytes], url: str, failure: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            if requests.get(url, timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise BenchmarkError(failure)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it has started in its session."""
    with uninterrupted():
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a second Ctrl-C not break off the ending of what was started."""
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
