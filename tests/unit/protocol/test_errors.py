"""The errors that clients see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serve import errors
from serve.errors import (
    ContextLengthExceeded,
    GroupQwenError,
    InvalidRequest,
    ModelNotFound,
    ModelStarting,
    QueueFull,
)


def kinds(base: type[GroupQwenError] = GroupQwenError) -> Iterator[type[GroupQwenError]]:
    """Every error class below ``base``."""
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from kinds(kind)


def test_an_error_is_openais_object() -> None:
    error = InvalidRequest("no", param="messages[0].role", code="odd")
    assert error.body() == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "messages[0].role", "code": "odd"}
    }


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_every_kind_of_error_has_a_code_and_a_type_that_fits_its_status(kind: type[GroupQwenError]) -> None:
    assert kind.default_code
    assert (kind.type in ("server_error", "service_unavailable")) == (kind.status >= 500)


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_the_tree_at_the_top_of_the_module_shows_every_error_with_its_status(kind: type[GroupQwenError]) -> None:
    tree = (errors.__doc__ or "").splitlines()
    (line,) = [line for line in tree if kind.__name__ in line.split()]
    own_status = "status" in vars(kind) or GroupQwenError in kind.__bases__
    assert (str(kind.status) in line) == own_status


def test_a_model_that_does_not_exist_is_told_with_those_that_do() -> None:
    assert "b" in ModelNotFound("a", ["c", "b"]).message
    assert "b, c" in ModelNotFound("a", ["c", "b"]).message
    assert "none yet" in ModelNotFound("a", []).message
    assert ModelNotFound("a", []).param == "model"


def test_a_prompt_that_is_too_long_is_told_with_both_numbers() -> None:
    error = ContextLengthExceeded(5000, 4096)
    assert "4096" in error.message and "5000" in error.message
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")


def test_errors_that_pass_say_when_to_try_again() -> None:
    assert QueueFull("m").retry_after and ModelStarting("m").retry_after
    assert (QueueFull("m").status, ModelStarting("m").status) == (429, 503)
