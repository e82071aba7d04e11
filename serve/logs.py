"""Logs as JSON lines, each with the request's id; no prompts, no answers, no secrets.

All go to standard error but for the access log, which has a file of its own.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

import orjson

#: The id of the request that the current task works for.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

#: Logger of the gateway's requests, a line each.
ACCESS = "serve.access"
#: Bytes of an access log at which the next file is begun, and how many full ones are kept.
_ACCESS_BYTES, _ACCESS_FILES = 100_000_000, 4

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON; what is passed as ``extra`` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (current := request_id.get()) is not None:
            fields["request_id"] = current
        fields.update({key: value for key, value in record.__dict__.items() if key not in _STANDARD})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(fields, default=str).decode()
        except orjson.JSONEncodeError:  # Half a surrogate pair, or a number of more than 64 bits.
            return json.dumps(fields, default=str)


def configure_logging(level: str = "INFO") -> None:
    """Send the group's own logs to standard error as JSON, where Ray collects them; others' are left alone."""
    root = logging.getLogger("serve")
    root.setLevel(level)
    if not any(isinstance(handler.formatter, JsonFormatter) for handler in root.handlers):
        # Serve puts an object in place of sys.stderr that looks at the whole stack for each line.
        handler = logging.StreamHandler(sys.__stderr__)
        handler.setFormatter(JsonFormatter())
        root.addHandler(handler)
        root.propagate = False


def log_access_to(file: Path) -> None:
    """Write the access log to ``file`` from now on, instead of to standard error.

    Ray reads what its workers write to standard error and sends it through the cluster's head: for a line a request,
    that cost 6 % of a core at 800 requests/s.

    Raises:
        OSError: the file cannot be written.
    """
    handler = RotatingFileHandler(file, maxBytes=_ACCESS_BYTES, backupCount=_ACCESS_FILES)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger(ACCESS)
    for before in list(logger.handlers):
        logger.removeHandler(before)
        before.close()
    logger.addHandler(handler)
    logger.propagate = False
