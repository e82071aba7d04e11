"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
from types import FrameType


def positive_count(text: str) -> int:
    """A whole number from 1, as ``argparse`` takes it."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def interrupt(number: int, frame: FrameType | None) -> None:
    """Let a signal end the benchmark as Ctrl-C does."""
    raise KeyboardInterrupt
