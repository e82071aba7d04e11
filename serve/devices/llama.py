"""What the installed llama-cpp-python was built for.

It is asked in a process of its own: a build for another processor ends the process that loads it or computes with it,
and one for a GPU takes some of that GPU's memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LlamaBuild:
    """An installed llama-cpp-python.

    Attributes:
        version: its version.
        gpu_offload: whether it can put layers on a GPU.
        system_info: llama.cpp's own line on the instruction sets and libraries that it was built with.
    """

    version: str
    gpu_offload: bool
    system_info: str


class LlamaUnusable(Exception):
    """llama-cpp-python is not installed or cannot be used; the message is one line."""


def llama_build() -> LlamaBuild:
    """What is installed beside this Python.

    Raises:
        LlamaUnusable: it is not there, cannot be loaded, or cannot compute.
    """
    try:
        result = subprocess.run(
            [sys.executable, "-m", "serve.devices.llama_probe"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LlamaUnusable(f"llama-cpp-python did not answer within {_SECONDS:g} s") from None
    if result.returncode != 0:
        raise LlamaUnusable(why_not_loaded("llama-cpp-python", result))
    return LlamaBuild(**json.loads(result.stdout.splitlines()[-1]))


def why_not_loaded(name: str, result: subprocess.CompletedProcess[str]) -> str:
    """One line on why the process that was to load ``name`` did not end well."""
    if result.returncode < 0:
        # An instruction that this processor does not know ends the process with SIGILL.
        ends = f"{name} ends the process with signal {-result.returncode}"
        return f"{ends}; it was built for another processor or system, or by a faulty compiler"
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    return f"{name} cannot be used: {lines[-1] if lines else f'exit code {result.returncode}'}"
