"""Inputs into shards of rows: files of rows, cut into ranges that can be read side by side, and chat exports."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from train.dataset.curate.repeats import entry, save_index
from train.dataset.curate.shards import SHARD_BYTES, RowWriter, Shard
from train.dataset.disk import whole_file
from train.dataset.exports import Place, Problem, Reading, ReadOptions, Reason, read_file
from train.dataset.exports.files import Event, broken_rule
from train.dataset.exports.problems import plain
from train.dataset.rows import Row

#: Opens a progress bar of a name, for so much work in a unit (``B`` are bytes).
Bar = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]

#: Of the longest line of a file of rows.
MAX_LINE_BYTES = 64 << 20
#: Problems that a unit tells one by one; it counts all.
MAX_TOLD = 100

_SNIFFED_BYTES = 1 << 20
# What Row.to_json writes begins so; a line that is longer than what is sniffed can be told by it.
_ROW_HEAD = re.compile(rb'^\s*\{\s*"id"\s*:\s*"(?:[^"\\]|\\.)*"\s*,\s*"source"\s*:\s*"[a-z]+"', re.MULTILINE)
_ROW_KEYS = {"id", "source", "messages", "provenance"}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the input that one worker reads.

    Attributes:
        name: the file, as it was named.
        rows: whether it holds rows; else it is an export, and read as a whole.
        start, size: the range in bytes; whole lines.
        line: the number of its first line, from 1.
    """

    number: int
    name: str
    rows: bool
    start: int
    size: int
    line: int


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of the input, its name as reports have it, with the hash of its content."""

    name: str
    sha256: str
    size: int


def survey(names: list[str], progress: Callable[[int], None]) -> tuple[list[InputFile], list[Part]]:
    """Look through the files once: what they hold by hash, and the parts that they are read in.

    Raises:
        OSError: one cannot be read.
    """
    files: list[InputFile] = []
    parts: list[Part] = []
    for name in names:
        digest = hashlib.sha256()
        rows = holds_rows(name)
        start = end = 0
        line = next_line = 1
        with open(name, "rb") as file:
            while block := file.read(SHARD_BYTES):
                digest.update(block)
                progress(len(block))
                cut = block.rfind(b"\n") + 1
                if rows and cut:
                    parts.append(Part(len(parts), name, True, start, end + cut - start, line))
                    start, line = end + cut, next_line + block.count(b"\n")
                next_line += block.count(b"\n")
                end += len(block)
        if end > start or not rows:
            parts.append(Part(len(parts), name, rows, start, end - start, line))
        files.append(InputFile(plain(name), digest.hexdigest(), end))
    return files, parts


def holds_rows(name: str) -> bool:
    """Whether a file has rows, as ``Row.to_json`` writes them, among its first lines."""
    with open(name, "rb") as file:
        head = file.read(_SNIFFED_BYTES)
    return any(map(_row_like, head.split(b"\n"))) or _ROW_HEAD.search(head) is not None


def _row_like(line: bytes) -> bool:
    if not line.lstrip().startswith(b"{") or b'"provenance"' not in line:
        return False
    try:
        return set(orjson.loads(line)) >= _ROW_KEYS
    except ValueError:
        return False


@dataclass(slots=True)
class _Found:
    """What a part holds: conversations that became no row are skipped, files that hold none are passed over."""

    skipped: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)
    shards: list[dict[str, Any]] = field(default_factory=list)

    def skip(self, problem: Problem, *, tell: bool) -> None:
        counted = problem.place.line is not None or problem.place.number is not None
        (self.skipped if counted else self.passed_over)[str(problem.reason)] += 1
        if (tell or problem.reason.fault) and len(self.problems) < MAX_TOLD:
            self.problems.append({**problem.body(), "text": str(problem)})


@dataclass(frozen=True)
class ReadPart:
    """Reads a part into shards with an index of ids beside each.

    Attributes:
        folder: of the shards.
        options: how conversations of exports are read.
        bar: opens a progress bar for an export, where the work is done in this process.
        tell_all: whether conversations that only have no answer are told by their places, too.
    """

    folder: Path
    options: ReadOptions
    bar: Bar | None = None
    tell_all: bool = False

    def __call__(self, part: Part) -> dict[str, Any]:
        """The shards, and what was found on the way."""
        found = _Found()
        with ExitStack() as stack:
            events = _Events(self._events(part, stack), found, self.tell_all)
            while (row := next(events, None)) is not None:
                self._write_shard(part, row, events, found)
        return {
            "skipped": dict(found.skipped),
            "passed_over": dict(found.passed_over),
            "sources": dict(found.sources),
            "problems": found.problems,
            "shards": found.shards,
        }

    def _events(self, part: Part, stack: ExitStack) -> Iterator[Event]:
        if part.rows:
            return _row_lines(part)
        reading = Reading(options=self.options)
        if self.bar is not None:
            reading = replace(reading, progress=stack.enter_context(self.bar(part.name, part.size, "B")))
        return read_file(part.name, reading)

    def _write_shard(self, part: Part, first: Row, rest: Iterator[Row], found: _Found) -> None:
        path = self.folder / f"{part.number:06d}-{len(found.shards):04d}.jsonl"
        index = []
        with ExitStack() as stack:
            out = RowWriter(stack.enter_context(whole_file(path)))
            row: Row | None = first
            while row is not None:
                out.write(row)
                index.append(entry(row))
                found.sources[row.source] += 1
                row = next(rest, None) if out.size < SHARD_BYTES else None
        save_index(path, index)
        found.shards.append(Shard(str(path), -1, out.rows, out.size).body())


class _Events(Iterator[Row]):
    """The rows among events; problems are noted."""

    def __init__(self, events: Iterator[Event], found: _Found, tell_all: bool) -> None:
        self._events = events
        self._tell_all = tell_all
        self._found = found

    def __next__(self) -> Row:
        for event in self._events:
            if isinstance(event, Row):
                return event
            self._found.skip(event, tell=self._tell_all)
        raise StopIteration


def _row_lines(part: Part) -> Iterator[Event]:
    with open(part.name, "rb") as file:
        file.seek(part.start)
        left, number = part.size, part.line
        while left > 0 and (line := file.readline(min(left, MAX_LINE_BYTES))):
            left -= len(line)
            place = Place(part.name, line=number)
            whole = line.endswith(b"\n") or left == 0
            while not whole and (more := file.readline(min(left, MAX_LINE_BYTES))):
                left -= len(more)
                whole = more.endswith(b"\n") or left == 0
                line = b""
            number += 1
            if not line:
                yield Problem(place, Reason.TOO_LARGE, f"more than {MAX_LINE_BYTES} bytes")
            elif line.strip():
                yield _parsed(line, place)


def _parsed(line: bytes, place: Place) -> Event:
    try:
        return Row.from_json(line)
    except ValidationError as error:
        if error.errors(include_input=False)[0]["type"] == "json_invalid":
            return Problem(place, Reason.BROKEN_JSON, "is not valid JSON")
        reason, detail = broken_rule(error)
        return Problem(place, reason, detail)
