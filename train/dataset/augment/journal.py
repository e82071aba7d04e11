"""What is done already, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from train.dataset.augment.checks import Refused
from train.dataset.augment.writer import Job, Made
from train.dataset.rows import Row

Json = dict[str, Any]


class JournalError(Exception):
    """The journal beside the output is of another run; the message is one line."""


class Journal:
    """A file of finished jobs, one a line; a context manager.

    Args:
        path: goes on where it is there.
        settings: what makes rows what they are; a journal of other settings is refused.

    Attributes:
        done: by key of a job, where its line begins.
        tokens: that all of them used; ``made`` of them are rows.

    Raises:
        JournalError: it is of other settings, or no journal.
    """

    def __init__(self, path: Path, settings: Json) -> None:
        self.path = path
        self.done: dict[str, int] = {}
        self.tokens = 0
        self.made = 0
        self.refused: dict[Refused, int] = {}
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(handle, "r+b")
        try:
            self._go_on({"settings": settings})
        except BaseException:
            self._file.close()
            raise

    def _go_on(self, head: Json) -> None:
        first = self._file.readline()
        if not first.endswith(b"\n"):
            self._file.seek(0)
            self._file.truncate()
            self._write(head)
            return
        if first != orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS):
            raise JournalError(
                f"{self.path} is of a run with other settings; finish that with the same settings, or remove the file"
            )
        while True:
            begin = self._file.tell()
            line = self._file.readline()
            # The end of a line that was cut off is written anew.
            if not line.endswith(b"\n"):
                self._file.truncate(begin)
                self._file.seek(begin)
                return
            self._count(orjson.loads(line), begin)

    def add(self, made: Made) -> None:
        """Note a finished job."""
        begin = self._file.seek(0, os.SEEK_END)
        entry = {
            "key": made.job.key,
            "tokens": made.tokens,
            "reason": made.reason,
            "row": None if made.row is None else made.row.model_dump(mode="json"),
        }
        self._write(entry)
        self._count(entry, begin)

    def row(self, job: Job) -> Row | None:
        """The row that a job made; none where it made none or is not done."""
        begin = self.done.get(job.key)
        if begin is None:
            return None
        self._file.seek(begin)
        found = orjson.loads(self._file.readline())["row"]
        return None if found is None else Row.from_json(orjson.dumps(found))

    def _count(self, entry: Json, begin: int) -> None:
        self.done[entry["key"]] = begin
        self.tokens += entry["tokens"]
        if entry["reason"] is None:
            self.made += 1
        else:
            reason = Refused(entry["reason"])
            self.refused[reason] = self.refused.get(reason, 0) + 1

    def _write(self, entry: Json) -> None:
        self._file.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS))
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
