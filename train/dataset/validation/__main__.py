"""``python -m train.dataset.validation FILE``: can a file be learned from?

Exit codes: 0 valid, 1 not valid, 2 wrong usage or a file that cannot be read, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Never

import orjson
from tqdm import tqdm

from train.dataset.validation.check import validate
from train.dataset.validation.lines import lines_of
from train.dataset.validation.report import MAX_LISTED, Validation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    options = _parser().parse_args(arguments)
    try:
        result = validate_file(options.file, listed=options.list)
    except OSError as error:
        sys.stderr.write(f"error: {options.file}: {error.strerror or error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
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
    bar: tqdm[Never]
    with (
        path.open("rb") as file,
        tqdm(
            total=os.fstat(file.fileno()).st_size,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
            leave=False,
            disable=None,
            file=sys.stderr,
        ) as bar,
    ):
        return validate(lines_of(file, progress=lambda count: _move(bar, count)), listed=listed)


def _move(bar: tqdm[Never], count: int) -> None:
    bar.update(count)


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
        "--list", type=_count, default=MAX_LISTED, metavar="N", help="errors and warnings shown, each (%(default)s)"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
