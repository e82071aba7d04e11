"""A command of its own, with the memory that it and all that it starts take at their most."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.machine import ROOT

_EVERY_SECONDS = 0.5
#: Of the time, what looking may take: it stops the processes that are looked at for a moment each.
_SHARE = 0.01


@dataclass(frozen=True)
class Ran:
    """What a command wrote to standard output, and the most bytes that it and its children took at once."""

    output: str
    peak: int


def run(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, folder: Path = ROOT) -> Ran:
    """Run a command to its end. Memory is proportional set size: what processes share is counted once.

    Raises:
        BenchmarkError: it failed; names its log.
    """
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, env=environment, cwd=folder
        )
        watch = _Watch(process.pid)
        watch.start()
        try:
            output, _ = process.communicate()
        finally:
            process.kill()
            watch.stop()
    if process.returncode != 0:
        raise BenchmarkError(f"{Path(command[0]).name} failed; its output is in {log}")
    return Ran(output.decode(), watch.peak)


class _Watch(threading.Thread):
    """Looks at a process and its descendants now and then."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._process = psutil.Process(pid)
        self._done = threading.Event()

    def run(self) -> None:
        pause = _EVERY_SECONDS
        while not self._done.wait(pause):
            begun = time.monotonic()
            self.peak = max(self.peak, self._now())
            pause = max(_EVERY_SECONDS, (time.monotonic() - begun) / _SHARE)

    def stop(self) -> None:
        """Stop looking."""
        self._done.set()
        self.join()

    def _now(self) -> int:
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in [self._process, *self._process.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                    total += _proportional(one.pid) if sys.platform == "linux" else one.memory_info().rss
        return total


def _proportional(pid: int) -> int:
    """Bytes of a process, with its part of what it shares with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) << 10
    return 0
