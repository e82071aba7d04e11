"""What the commands on data sets have in common."""

from __future__ import annotations

import argparse

import pytest

from serve.settings.base import Settings
from train.dataset.commands import CommandFailed, UsageError, count, progress_bar, run_command, settings_of


class Broken(Exception):
    """What a command of these tests says that it can fail with."""


def run(raised: BaseException | None, code: int = 0) -> int:
    def work(options: argparse.Namespace) -> int:
        if raised is not None:
            raise raised
        return code

    parser = argparse.ArgumentParser(prog="this")
    return run_command(parser, [], work, failures=(Broken,), interrupted="interrupted; go on")


@pytest.mark.parametrize("code", [0, 3])
def test_the_code_is_that_of_the_work(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(None, code) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (CommandFailed("no\nnothing was written"), 1, "error: no\nnothing was written\n"),
        (Broken("it broke"), 1, "error: it broke\n"),
        (FileNotFoundError(2, "No such file", "x"), 1, "error: [Errno 2] No such file: 'x'\n"),
        (KeyboardInterrupt(), 130, "interrupted; go on\n"),
    ],
)
def test_an_error_is_told_and_has_a_code(
    raised: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raised) == code
    assert capsys.readouterr() == ("", told)


def test_wrong_usage_shows_how_the_command_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(UsageError("name an INPUT"))
    assert left.value.code == 2
    assert capsys.readouterr().err == "usage: this [-h]\nthis: error: name an INPUT\n"


def test_an_error_that_nobody_expects_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        run(KeyError("x"))


class Sizes(Settings):
    """Settings that options make."""

    width: int
    height: int


def test_faults_of_options_are_one_line() -> None:
    assert settings_of(Sizes, {"width": 1, "height": 2}) == Sizes(width=1, height=2)
    with pytest.raises(UsageError) as raised:
        settings_of(Sizes, {"width": "a", "height": "b"})
    assert [part.split(":")[0] for part in str(raised.value).split("; ")] == ["width", "height"]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["-1", "", "1.5", "two", "1" * 10, "²"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number from 0 on"):
        count(text)


def test_a_progress_bar_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert count("007") == 7
    for total in (None, 10):
        with progress_bar("read", total) as move:
            move(7)
            move(7)
    assert capsys.readouterr().err == ""
