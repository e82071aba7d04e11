"""Programs of ``train`` that the gateway starts, so that nothing of theirs is imported here and no stream waits."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import serve
from train.jobs import TRY_AGAIN

#: Where the packages lie, which need not be installed.
ROOT = Path(serve.__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has come to its end."""

    exit_code: int
    output: bytes
    errors: str

    @property
    def passing(self) -> bool:
        """Whether it may do if it is started again: it was killed, or says so."""
        return self.exit_code < 0 or self.exit_code == TRY_AGAIN

    @property
    def last_error(self) -> str:
        """The last line that it wrote to standard error."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        return lines[-1] if lines else f"it ended with the exit code {self.exit_code}"


async def run_module(module: str, *arguments: str) -> Ended:
    """Run ``python -m module`` with this process's environment; it ends when the caller is cancelled."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    return Ended(process.returncode or 0, output, errors.decode("utf-8", "replace"))
