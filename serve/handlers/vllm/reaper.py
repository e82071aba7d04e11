"""Ends the engine's processes when the replica is gone, also one that was killed and could not end them itself.

vLLM's processes do not notice that the one that started them was killed, and would hold their memory for ever. This
file runs as a process of its own, given their ids; the end of its standard input tells it that the replica has ended.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence

import psutil


class Reaper:
    """A process that watches this one."""

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        # Isolated, so that no module of this folder stands in for one of Python's own.
        command = [sys.executable, "-I", __file__, *(str(process.pid) for process in processes)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def close(self) -> None:
        """End what still runs, and the watching."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    """Wait for the end of standard input, then end the processes whose ids are the arguments."""
    watched = []
    for number in sys.argv[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            watched.append(psutil.Process(int(number)))
    sys.stdin.buffer.read()
    for process in watched:
        # psutil knows by its start time that a process is not another one with the same id.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    main()
