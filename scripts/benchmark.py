#!/usr/bin/env python
"""Measures the group against its rivals: ``scripts/benchmark.py NAME``; ``--help`` lists the names."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import curate, gateway, llamacpp, translation, vllm, wake
from benchmarks.errors import BenchmarkError
from serve.launch.errors import LaunchError
from serve.models import ModelSourceError
from serve.settings.errors import SettingsError


class Benchmark(Protocol):
    """A module with a benchmark."""

    SUMMARY: str
    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its options."""

    def run(self, options: argparse.Namespace) -> None:
        """Measure and write the results."""


BENCHMARKS: dict[str, Benchmark] = {
    "curate": curate,
    "gateway": gateway,
    "llamacpp": llamacpp,
    "translation": translation,
    "vllm": vllm,
    "wake": wake,
}


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark; 0 when it measured, whatever it found, 1 with a line on standard error when it could not."""
    parser = argparse.ArgumentParser(prog="scripts/benchmark.py", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="NAME")
    for name, module in BENCHMARKS.items():
        module.add_arguments(commands.add_parser(name, help=module.SUMMARY, description=module.__doc__))
    options = parser.parse_args(argv)
    # Ended like Ctrl-C does it, so that nothing of what was started is left.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        BENCHMARKS[options.benchmark].run(options)
    except (BenchmarkError, LaunchError, SettingsError, ModelSourceError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; everything that was started has ended\n")
        return 130
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
