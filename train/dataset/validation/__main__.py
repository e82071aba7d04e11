"""``python -m train.dataset.validation FILE``: can a file be learned from?

Exit codes: 0 valid, 1 not valid, 2 wrong usage or a file that cannot be read, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from train.dataset.commands import count, progress_bar, run_command
from train.dataset.validation.check import validate
from train.dataset.validation.lines import lines_of
from train.dataset.validation.report import MAX_LISTED, Validation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    return run_command(_parser(), arguments, _run)


def _run(options: argparse.Namespace) -> int:
    try:
        result = validate_file(options.file, listed=options.list)
    except OSError as error:
        sys.stderr.write(f"error: {options.file}: {error.strerror or error}\n")
        return 2
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(result.body(), option=orjson.OPT_APPEND_NEWLINE))
    else:
        sys.stdout.write(f"{result.text()}\n")
    return 0 if result.valid else 1


def validate_file(path: Path, *, listed: int = MAX_LISTED) -> Validation:
    """Validate a file, with a progress bar on standard error while that is a terminal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file, progress_bar("validate", os.fstat(file.fileno()).st_size) as progress:
        return validate(lines_of(file, progress=progress), listed=listed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.dataset.validation",
        description="Says whether a file can be learned from, and if not, what is wrong at which line: OpenAI's chat"
        " JSONL, pairs of answers in OpenAI's form, or this group's own rows. What was said is never shown.",
        epilog="exit codes: 0 valid; 1 not valid; 2 wrong usage, or a file that cannot be read; 130 interrupted",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.add_argument(
        "--list", type=count, default=MAX_LISTED, metavar="N", help="errors and warnings shown, each (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
