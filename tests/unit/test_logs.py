"""Logs as JSON lines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from serve.logs import ACCESS, JsonFormatter, configure_logging, log_access_to, request_id


def line(message: str = "hello", *arguments: object, **extra: Any) -> dict[str, Any]:
    """A record as it is written."""
    record = logging.LogRecord("serve.test", logging.INFO, __file__, 1, message, arguments, None)
    record.__dict__.update(extra)
    written = JsonFormatter().format(record)
    assert "\n" not in written
    found: dict[str, Any] = json.loads(written)
    return found


def test_a_line_says_when_how_bad_where_and_what() -> None:
    found = line("%s of %d", "two", 5)
    assert datetime.fromisoformat(found.pop("time")).utcoffset() is not None
    assert found == {"level": "INFO", "logger": "serve.test", "message": "two of 5"}


def test_what_is_passed_along_becomes_fields() -> None:
    assert line(model="m", status=200, reason=None).items() >= {"model": "m", "status": 200, "reason": None}.items()


def test_the_id_of_the_request_is_in_the_line_while_it_is_worked_on() -> None:
    token = request_id.set("r1")
    assert line()["request_id"] == "r1"
    request_id.reset(token)
    assert "request_id" not in line()


def test_an_exception_is_written_in_the_same_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        found = line(exc_info=sys.exc_info())
    assert found["exception"].endswith("ValueError: broken")
    assert "Traceback" in found["exception"]


@pytest.mark.parametrize(
    "value", ["ü 👩", "\ud800", "a\nb\r\n", "\x00", 2**70, {"a": {1, 2}}, b"\xff", object(), float("nan"), "\u2028"]
)
def test_any_value_is_written_in_one_line_of_json(value: object) -> None:
    assert "value" in line("%s", value, value=value)


@pytest.fixture
def own() -> Iterator[logging.Logger]:
    """The group's logger, put back as it was."""
    found = logging.getLogger("serve")
    level, handlers, propagate = found.level, list(found.handlers), found.propagate
    found.handlers = []
    yield found
    found.setLevel(level)
    found.handlers, found.propagate = handlers, propagate


def test_the_groups_logs_go_to_standard_error_once_however_often_it_is_configured(
    own: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("WARNING")
    configure_logging("WARNING")
    logging.getLogger("serve.gateway").warning("heard")
    logging.getLogger("serve.gateway").info("not heard")
    logging.getLogger("another.library").warning("not ours")
    assert [json.loads(text)["message"] for text in capfd.readouterr().err.splitlines()] == ["heard"]


def test_the_level_may_be_changed_later(own: logging.Logger) -> None:
    configure_logging("ERROR")
    configure_logging("DEBUG")
    assert own.level == logging.DEBUG
    assert len(own.handlers) == 1


def test_the_access_log_goes_to_its_file_and_nowhere_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger(ACCESS)
    try:
        log_access_to(tmp_path / "first.log")
        log_access_to(tmp_path / "access.log")
        logger.warning("request", extra={"status": 200, "path": "/v1/m\u00f6dels"})
    finally:
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True
    (written,) = (tmp_path / "access.log").read_text().splitlines()
    assert json.loads(written).items() >= {"status": 200, "path": "/v1/m\u00f6dels"}.items()
    assert (tmp_path / "first.log").read_text() == ""
    assert capfd.readouterr().err == ""
