"""How a fetch tells what it does: a progress bar for a person, or the log."""

from __future__ import annotations

import logging
import sys
from typing import Never, Protocol

from tqdm import tqdm

logger = logging.getLogger(__name__)


class Reporter(Protocol):
    """Told about a fetch as it goes."""

    def note(self, line: str) -> None:
        """Something worth knowing."""

    def warn(self, line: str) -> None:
        """Something went wrong, and the fetch goes on."""

    def begin(self, size: int, total: int) -> None:
        """Bytes start to come; ``size`` of ``total`` are here already."""

    def at(self, size: int) -> None:
        """``size`` bytes are here."""

    def end(self) -> None:
        """No more bytes will come."""


class LogReporter:
    """Tells the log, and nothing about single bytes."""

    def note(self, line: str) -> None:
        """Log ``line``."""
        logger.info("%s", line)

    def warn(self, line: str) -> None:
        """Log ``line`` as a warning."""
        logger.warning("%s", line)

    def begin(self, size: int, total: int) -> None:
        """Nothing."""

    def at(self, size: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class BarReporter:
    """Writes lines to stderr, below them a bar with bytes, rate and time left while stderr is a terminal.

    Args:
        label: stands before the bar.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: tqdm[Never] | None = None

    def note(self, line: str) -> None:
        """Write ``line``."""
        tqdm.write(line, file=sys.stderr)

    def warn(self, line: str) -> None:
        """Write ``line``."""
        self.note(line)

    def begin(self, size: int, total: int) -> None:
        """Show a new bar, whose rate counts only what comes from now on."""
        self.end()
        self._bar = tqdm(
            desc=self._label,
            total=total,
            initial=size,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
            leave=False,
            disable=None,
            file=sys.stderr,
        )

    def at(self, size: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(size - self._bar.n)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def size_text(size: int) -> str:
    """``size`` bytes for a person, in decimal megabytes."""
    return f"{size / 1e6:,.1f} MB"
