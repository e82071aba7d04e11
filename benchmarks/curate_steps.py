"""The steps that are measured on rows, each spread over workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from train.dataset.duplicates import DuplicateSettings, find_duplicates
from train.dataset.duplicates.pieces import Piece, pieces_of
from train.dataset.parallel import each
from train.dataset.personal import PersonalData, PersonalDataSettings
from train.dataset.rows import Message, Provenance, Row


@dataclass(frozen=True)
class RedactTask:
    """Puts pieces of the rows, without personal data, into the folder ``out``."""

    personal: PersonalData
    out: Path

    def __call__(self, piece: Piece) -> Counter[str]:
        """Write a piece's rows with their findings replaced; counts the findings."""
        found: Counter[str] = Counter()
        with (self.out / f"{piece.number:06}.jsonl").open("wb") as file:
            for _, line in piece.lines():
                redacted = self.personal.redact(Row.from_json(line))
                file.write(redacted.row.to_json())
                found.update(redacted.found)
        return found


def _duplicates(shards: list[Path], out: Path, workers: int) -> None:
    decisions = find_duplicates(shards, DuplicateSettings(), out / "work", workers=workers)
    with (out / "dropped.jsonl").open("wb") as file:
        for one in decisions:
            file.write(orjson.dumps([one.id, one.reason, one.other], option=orjson.OPT_APPEND_NEWLINE))


def _personal(shards: list[Path], out: Path, workers: int) -> None:
    personal = PersonalData(PersonalDataSettings(names="off"))
    found: Counter[str] = sum(each(RedactTask(personal, out), pieces_of(shards), workers), Counter())
    (out / "found.json").write_bytes(orjson.dumps(found))


#: What is done with files of rows, with the folder for what comes of it.
STEPS: dict[str, Callable[[list[Path], Path, int], None]] = {"duplicates": _duplicates, "personal": _personal}


def warm_up(thing: int) -> None:
    """Import and load what the steps need."""
    said = (
        Message(role="user", content="+49 30 901820"),
        Message(role="assistant", content="DE89 3704 0044 0532 0130 00"),
    )
    row = Row(id=str(thing), source="openai", messages=said, provenance=Provenance())
    PersonalData(PersonalDataSettings(names="off")).redact(row)
