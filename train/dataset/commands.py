"""What the commands on data sets have in common: options that are checked, exit codes of errors, progress bars."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Never, TypeVar

from pydantic import BaseModel
from tqdm import tqdm

from serve.settings.errors import SettingsError, parsed

T = TypeVar("T", bound=BaseModel)


class UsageError(Exception):
    """The command line asks for what cannot be done; the message is one line."""


class CommandFailed(Exception):
    """The command could not do what it was asked for; the message is for the user."""


def run_command(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    work: Callable[[argparse.Namespace], int],
    *,
    failures: tuple[type[Exception], ...] = (),
    interrupted: str = "interrupted",
) -> int:
    """Parse the command line and do the work; gives the exit code.

    Args:
        arguments: by default those of the process.
        work: gives the exit code where nothing is raised.
        failures: errors whose message is for the user, besides ``CommandFailed`` and ``OSError``; they give 1.
        interrupted: what is said after Ctrl-C, which gives 130.

    Raises:
        SystemExit: 2 for wrong usage, 0 for ``--help``.
    """
    options = parser.parse_args(arguments)
    expected: tuple[type[Exception], ...] = (CommandFailed, OSError, *failures)
    try:
        return work(options)
    except UsageError as error:
        parser.error(str(error))
    except expected as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{interrupted}\n")
        return 130


def settings_of(kind: type[T], raw: dict[str, object]) -> T:
    """What options ask for, as settings.

    Raises:
        UsageError: it does not fit; all faults in one line.
    """
    try:
        return parsed(kind, raw, "")
    except SettingsError as error:
        raise UsageError("; ".join(str(error).splitlines())) from None


def count(text: str) -> int:
    """An option that is a number.

    Raises:
        argparse.ArgumentTypeError: it is none, or not from 0 on.
    """
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


@contextmanager
def progress_bar(title: str, total: int | None, unit: str = "B") -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error while that is a terminal; gives what moves it.

    Args:
        title: what is done.
        total: of the work, where it is known.
        unit: of the work; ``B`` are bytes.
    """
    bar: tqdm[Never]
    with tqdm(
        total=total,
        desc=title[:40],
        unit=unit,
        unit_scale=unit == "B",
        dynamic_ncols=True,
        leave=False,
        disable=None,
        file=sys.stderr,
    ) as bar:

        def move(done: int) -> None:
            # Archives read their directory as well, which is at the end.
            bar.update(done if bar.total is None else min(done, bar.total - bar.n))

        yield move
