"""Runs a load in a process of its own, so that what it costs is nobody else's."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.errors import BenchmarkError
from benchmarks.machine import ROOT

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def measured(module: str, load: DataclassInstance, what: str, seconds: float) -> dict[str, Any]:
    """What ``python -m module`` says of ``load``; it may take ``seconds``.

    Raises:
        BenchmarkError: a request failed or an answer was not whole; the message names ``what`` and why.
    """
    result = subprocess.run(
        [sys.executable, "-m", module],
        input=orjson.dumps(asdict(load)),
        capture_output=True,
        check=False,
        cwd=ROOT,
        timeout=seconds,
    )
    if result.returncode != 0:
        raise BenchmarkError(f"{what}: {result.stderr.decode().strip()}")
    sample: dict[str, Any] = orjson.loads(result.stdout)
    return sample
