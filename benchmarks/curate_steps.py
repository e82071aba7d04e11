"""The steps that are measured on rows, each spread over workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from train.dataset.duplicates import DuplicateSettings, RayTasks, find_duplicates
from train.dataset.duplicates.pieces import Piece, pieces_of
from train.dataset.personal import PersonalData, PersonalDataSettings
from train.dataset.rows import Message, Provenance, Row


@dataclass(frozen=True)
class RedactTask:
    """A piece of the rows, and the folder that it goes to without personal data."""

    piece: Piece
    personal: PersonalData
    out: Path


def redact(task: RedactTask) -> Counter[str]:
    """Write a piece's rows with their findings replaced; counts the findings."""
    found: Counter[str] = Counter()
    with (task.out / f"{task.piece.number:06}.jsonl").open("wb") as file:
        for _, line in task.piece.lines():
            redacted = task.personal.redact(Row.from_json(line))
            file.write(redacted.row.to_json())
            found.update(redacted.found)
    return found


def _duplicates(shards: list[Path], out: Path, workers: RayTasks) -> None:
    decisions = find_duplicates(shards, DuplicateSettings(), out / "work", workers=workers)
    with (out / "dropped.jsonl").open("wb") as file:
        for one in decisions:
            file.write(orjson.dumps([one.id, one.reason, one.other], option=orjson.OPT_APPEND_NEWLINE))


def _personal(shards: list[Path], out: Path, workers: RayTasks) -> None:
    personal = PersonalData(PersonalDataSettings(names="off"))
    tasks = [RedactTask(piece, personal, out) for piece in pieces_of(shards)]
    found: Counter[str] = sum(workers.map(redact, tasks), Counter())
    (out / "found.json").write_bytes(orjson.dumps(found))


#: What is done with files of rows, with the folder for what comes of it.
STEPS: dict[str, Callable[[list[Path], Path, RayTasks], None]] = {"duplicates": _duplicates, "personal": _personal}


def warm_up(thing: int) -> None:
    """Import and load what the steps need."""
    said = (
        Message(role="user", content="+49 30 901820"),
        Message(role="assistant", content="DE89 3704 0044 0532 0130 00"),
    )
    row = Row(id=str(thing), source="openai", messages=said, provenance=Provenance())
    PersonalData(PersonalDataSettings(names="off")).redact(row)
