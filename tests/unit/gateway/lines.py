"""The gateway's own log, as the JSON lines that it writes."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from serve.logs import JsonFormatter


class Lines:
    """Everything that was logged since the test began."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        """As it was written."""
        return self._stream.getvalue()

    def all(self, logger: str = "serve") -> list[dict[str, Any]]:
        """The lines of one logger and those below it."""
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if line["logger"].startswith(logger)]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The lines that the group's loggers write."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger("serve")
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield Lines(stream)
    root.removeHandler(handler)
    root.setLevel(level)
