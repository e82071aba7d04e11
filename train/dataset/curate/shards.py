"""Shards: files of rows, one a line, each with how many there are; written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from train.dataset.disk import whole_file
from train.dataset.rows import Row

#: Where a shard ends; the row that passes it is the last one.
SHARD_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of rows.

    Attributes:
        number: its place among the shards of its stage, from 0.
        size: in bytes.
    """

    path: str
    number: int
    rows: int
    size: int

    def read(self) -> Iterator[tuple[int, Row]]:
        """Every row with its line, from 0."""
        with open(self.path, "rb") as file:
            for line, text in enumerate(file):
                yield line, Row.from_json(text)

    def body(self) -> dict[str, Any]:
        """The shard as JSON, by its name alone: its folder may be moved, or have a name that is not UTF-8."""
        return {"name": Path(self.path).name, "rows": self.rows, "size": self.size}


def write_json(path: Path, body: dict[str, Any]) -> None:
    """Write ``body`` so that ``path`` is the old file or the new one."""
    with whole_file(path) as file:
        file.write(orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


class RowWriter:
    """Counts rows on their way into a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.rows = 0
        self.size = 0

    def write(self, row: Row) -> None:
        """Add a row."""
        self.size += self._file.write(row.to_json())
        self.rows += 1


def private_folder(path: Path) -> Path:
    """``path`` as a folder for its owner alone."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(path, 0o700)
    return path
