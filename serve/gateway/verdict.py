"""Validates training files in processes of their own, so that no stream waits for one."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import psutil

from serve.errors import InternalError

#: The code that training reads a file with; the gateway starts it and imports nothing of it.
MODULE = "train.dataset.validation"
#: Validations at once; others wait.
AT_ONCE = 2
_NICENESS = 10

Json = dict[str, Any]

logger = logging.getLogger(__name__)


class Verdicts:
    """Says what is wrong with training files."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="verdict")

    async def of(self, path: Path) -> Json:
        """What ``train.dataset.validation`` finds in a file (``Validation.body``).

        Raises:
            InternalError: it failed; the log says how.
        """
        process = _Process(path)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, process.run)
        finally:
            process.kill()

    def close(self) -> None:
        """Begin no more validations."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Process:
    """One validation, which another thread may end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def run(self) -> Json:
        """Start, and wait for the end."""
        with self._guard:
            if self._killed:
                raise InternalError("The validation was given up.")
            process = self._process = _started(self._path)
        output, errors = process.communicate()
        if not output:
            # The last line is the exception; pydantic and orjson show no input in theirs.
            last = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
            logger.error("a validation failed", extra={"exit_code": process.returncode, "reason": last[:500]})
            raise InternalError("The file could not be validated; the server's log says why.")
        found: Json = orjson.loads(output)
        return found

    def kill(self) -> None:
        """End it, whether it has begun, is under way, or has ended."""
        with self._guard:
            self._killed = True
            if self._process is not None:
                self._process.kill()


def _started(path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        # -P: the folder that the gateway happens to run in is no place to import from.
        [sys.executable, "-P", "-m", MODULE, "--json", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # What reads an upload needs none of the secrets in the environment.
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        # Answers come first.
        psutil.Process(process.pid).nice(_NICENESS)
    except psutil.Error:
        pass  # It has ended already.
    return process
