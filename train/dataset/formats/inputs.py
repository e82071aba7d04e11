"""The rows to prepare: files of them, in pieces of some megabytes that can be worked on apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from train.dataset.formats.split import SPLITS, SplitName
from train.dataset.rows import Row
from train.dataset.validation import MAX_LINE_BYTES, Fault, lines_of
from train.dataset.validation.forms import faults_of

PIECE_BYTES = 4 << 20


class InputError(Exception):
    """What was named as input cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file of rows.

    Attributes:
        split: where all its rows belong; none where they are still to be shared out.
    """

    path: Path
    split: SplitName | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Some whole lines of a file.

    Attributes:
        number: of the piece, over all inputs.
        begin: the byte at which it begins.
        line: the number of its first line, from 1; ``lines`` is how many there are.
    """

    number: int
    source: Input
    begin: int
    size: int
    line: int
    lines: int


def inputs_of(names: Sequence[Path]) -> list[Input]:
    """The files that are named: files of rows, or the folder of a data set that is split already.

    Raises:
        InputError: there is no such file, or no rows in the folder.
    """
    found: list[Input] = []
    for name in names:
        if name.is_file():
            found.append(Input(name))
        elif name.is_dir():
            files = [Input(name / "data" / f"{split}.jsonl", split) for split in SPLITS]
            there = [one for one in files if one.path.is_file()]
            if not there:
                raise InputError(f"the folder {name} has no data/train.jsonl as scripts/curate_dataset.py writes it")
            found += there
        else:
            raise InputError(f"there is no file or folder {name}")
    return found


def pieces_of(inputs: Sequence[Input], size: int = PIECE_BYTES) -> Iterator[Piece]:
    """All inputs in pieces of ``size`` bytes, or a line more."""
    number = 0
    for source in inputs:
        begin, length, line, lines = 0, 0, 1, 0
        with source.path.open("rb") as file:
            sizes: list[int] = []
            for _ in lines_of(file, progress=sizes.append):
                length += sum(sizes)
                sizes.clear()
                lines += 1
                if length >= size:
                    yield Piece(number, source, begin, length, line, lines)
                    number, begin, length, line, lines = number + 1, begin + length, 0, line + lines, 0
        if lines:
            yield Piece(number, source, begin, length, line, lines)
            number += 1


def rows_of(piece: Piece) -> Iterator[tuple[int, Row | Fault]]:
    """Each row of a piece, or what is wrong with it, with the number of its line; blank lines are passed over."""
    with piece.source.path.open("rb") as file:
        file.seek(piece.begin)
        for number, line in enumerate(islice(lines_of(file), piece.lines), piece.line):
            if len(line) > MAX_LINE_BYTES:
                yield number, Fault(None, "too_large", f"has more than {MAX_LINE_BYTES} bytes")
            elif text := line.strip():
                for found in _row(text):
                    yield number, found


def _row(text: bytes) -> Iterator[Row | Fault]:
    try:
        yield Row.from_json(text)
    except ValidationError as error:
        yield from faults_of(error, Row)
