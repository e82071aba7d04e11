"""Decisions of a reviewer, one a line of ``decisions.jsonl``, each for one row as it was when it was looked at.

The file is only added to, so what was decided survives whatever ends the session. The last line on a row counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError, model_validator

from serve.settings.errors import SettingsError
from train.dataset.curate.outcome import KEPT, Changed, Dropped, Outcome
from train.dataset.rows import Row, content_digest

Verdict = Literal["keep", "edit", "drop", "undo"]


class Decision(BaseModel):
    """One decision.

    Attributes:
        id, digest: of the row and of its content. A row that says something else by now has to be looked at again.
        verdict: ``undo`` takes back what was decided before.
        row: the row in the place of the other, for ``edit``.
        at: when it was decided.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str
    digest: str
    verdict: Verdict
    row: Row | None = None
    at: AwareDatetime

    @model_validator(mode="after")
    def _has_a_row_to_put_in(self) -> Self:
        if (self.verdict == "edit") != (self.row is not None):
            raise ValueError("a row belongs to the verdict edit, and to no other")
        return self


class Decisions:
    """What was decided so far: in memory, since people decide slowly, and in a file.

    Args:
        path: the file; it is made with the first decision, for its owner alone.

    Raises:
        SettingsError: the file is damaged; names the line. A last line that was cut off is left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, Decision]] = {}
        if path.exists():
            for decision in _read(path):
                self._take(decision)

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def on(self, row: Row) -> Decision | None:
        """The decision on a row, as it is now."""
        return self._known.get(row.id, {}).get(digest(row))

    def outdated(self, row: Row) -> bool:
        """Whether there are decisions on a row, but on other content."""
        return bool(self._known.get(row.id)) and self.on(row) is None

    def outcome(self, row: Row) -> Outcome:
        """What becomes of a row; without a decision it is kept."""
        decision = self.on(row)
        if decision is None or decision.verdict == "keep":
            return KEPT
        return Changed(decision.row, {"edited": 1}) if decision.row else Dropped("reviewer")

    def add(self, row: Row, verdict: Verdict, edited: Row | None = None) -> None:
        """Decide on ``row``, in memory and in the file."""
        decision = Decision(id=row.id, digest=digest(row), verdict=verdict, row=edited, at=datetime.now(UTC))
        line = orjson.dumps(decision.model_dump(mode="json", exclude_none=True), option=orjson.OPT_APPEND_NEWLINE)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with open(handle, "r+b") as file:
            # After a line that was cut off.
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._take(decision)

    def _take(self, decision: Decision) -> None:
        of_row = self._known.setdefault(decision.id, {})
        if decision.verdict == "undo":
            of_row.pop(decision.digest, None)
        else:
            of_row[decision.digest] = decision


def digest(row: Row) -> str:
    """What tells the content of a row from another's."""
    return content_digest(row.messages, row.tools or (), row.rejected or ())


def _read(path: Path) -> Iterator[Decision]:
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                yield Decision.model_validate_json(line)
        except ValidationError:
            # A session that was killed can leave half a line, which the next one puts an end to.
            if not _cut_off(line):
                raise SettingsError(f"{path}, line {number}: is no decision; mend the line or remove it") from None


def _cut_off(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return True
    return False
