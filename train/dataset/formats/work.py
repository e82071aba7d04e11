"""What is done with each piece of the input: rows in, a file of prepared rows for each split out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from serve.settings.base import Settings
from train.dataset.formats.apart import Places
from train.dataset.formats.chat import Chat
from train.dataset.formats.columns import FormName, schema_of
from train.dataset.formats.encode import EncodeSettings
from train.dataset.formats.fingerprint import Fingerprint
from train.dataset.formats.forms import Record, records
from train.dataset.formats.inputs import Piece, rows_of
from train.dataset.formats.lengths import Lengths
from train.dataset.formats.split import SplitName, SplitSettings, placed
from train.dataset.formats.unfit import Reason, Unfit
from train.dataset.formats.writers import FileKind, Writer
from train.dataset.rows import Row
from train.dataset.validation.report import MAX_LISTED, Found


class PrepareSettings(Settings):
    """How a data set is prepared.

    Attributes:
        form: the model's tokens, its text, or messages as they are.
        pairs: of a better and a worse answer, from rows that have both; without, every row's answers.
        files: what is written.
        pack: put several sequences into one row of at most ``encode.max_tokens``; for tokens that are no pairs.
        split: for input that is not split already.
    """

    form: FormName = "tokens"
    pairs: bool = False
    files: FileKind = "parquet"
    pack: bool = True
    encode: EncodeSettings = EncodeSettings()
    split: SplitSettings = Field(default_factory=SplitSettings)


@dataclass(slots=True)
class SplitTally:
    """What went into one split.

    Attributes:
        rows: that were prepared; ``records`` is what became of them.
        characters: of what was said in each.
        tokens: of each sequence, or pair; ``learned`` of them are answers.
    """

    rows: int = 0
    records: int = 0
    answers: int = 0
    learned: int = 0
    characters: Lengths = field(default_factory=Lengths)
    tokens: Lengths = field(default_factory=Lengths)

    def add(self, row: Row, made: list[Record]) -> None:
        """Count a row and what became of it."""
        self.rows += 1
        self.characters.add(sum(message.size for message in row.messages))
        for record in made:
            self.records += 1
            self.answers += record.answers
            self.learned += record.learned
            if record.tokens:
                self.tokens.add(record.tokens)

    def merge(self, other: SplitTally) -> None:
        """Count all of ``other``."""
        self.rows += other.rows
        self.records += other.records
        self.answers += other.answers
        self.learned += other.learned
        self.characters.merge(other.characters)
        self.tokens.merge(other.tokens)


@dataclass(slots=True)
class Tally:
    """What was done.

    Attributes:
        read: rows.
        dropped: those that were left out, by reason.
        faults: lines that are no rows; the places are lines of ``faulty``.
        fingerprint: of the rows that were kept.
    """

    read: int = 0
    splits: dict[SplitName, SplitTally] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)
    augmented: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    faults: dict[Path, Found] = field(default_factory=dict)
    fingerprint: Fingerprint = field(default_factory=Fingerprint)

    def merge(self, other: Tally) -> None:
        """Count all of ``other``."""
        self.read += other.read
        for name, split in other.splits.items():
            self.splits.setdefault(name, SplitTally()).merge(split)
        self.sources.update(other.sources)
        self.augmented.update(other.augmented)
        self.dropped.update(other.dropped)
        self.fingerprint.merge(other.fingerprint)
        for path, found in other.faults.items():
            kept = self.faults.setdefault(path, Found(MAX_LISTED))
            kept.total += found.total
            kept.listed = sorted([*kept.listed, *found.listed], key=lambda fault: fault.line or 0)[:MAX_LISTED]


@dataclass(frozen=True, slots=True)
class Done:
    """A piece that is done: its parts are files of its number, one for each split of the tally."""

    piece: Piece
    tally: Tally
    places: Places


@dataclass
class Work:
    """Prepares pieces; can be sent to other processes, each of which loads the tokenizer for itself.

    Attributes:
        model: names the tokenizer; none for messages as they are.
        folder: where parts go.
        clusters: names of groups by row (``split.group_of``).
    """

    settings: PrepareSettings
    model: str | None
    folder: Path
    clusters: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def chat(self) -> Chat | None:
        """The model's, loaded once in each process."""
        return None if self.model is None else Chat.load(self.model, self.settings.encode.variables)

    def part(self, piece: Piece, split: SplitName) -> Path:
        """Where the rows of a piece that go to a split are put meanwhile."""
        return self.folder / f"{split}-{piece.number:06}.parquet"

    def __call__(self, piece: Piece) -> Done:
        """Prepare a piece."""
        tally, places = Tally(), Places()
        writers: dict[SplitName, Writer] = {}
        schema = schema_of(self.settings.form, self.settings.pairs)
        with ExitStack() as open_files:
            for number, row in rows_of(piece):
                if not isinstance(row, Row):
                    tally.faults.setdefault(piece.source.path, Found(MAX_LISTED)).add(number, row)
                    continue
                tally.read += 1
                try:
                    split, made = self._prepared(row, piece)
                except Unfit as unfit:
                    tally.dropped[unfit.reason.value] += 1
                    continue
                if split not in writers:
                    writers[split] = open_files.enter_context(Writer(self.part(piece, split), "parquet", schema))
                for record in made:
                    writers[split].write(record.columns)
                _count(tally, row, split, made)
                places.add(row, split, self.clusters)
        return Done(piece, tally, places)

    def _prepared(self, row: Row, piece: Piece) -> tuple[SplitName, list[Record]]:
        split = piece.source.split or placed(row, self.settings.split, self.clusters)
        if split is None or (split != "train" and row.provenance.augmented is not None):
            raise Unfit(Reason.HELD_OUT)
        return split, records(row, self.settings.form, self.settings.pairs, self.chat, self.settings.encode)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "chat"}


def _count(tally: Tally, row: Row, split: SplitName, made: list[Record]) -> None:
    tally.splits.setdefault(split, SplitTally()).add(row, made)
    tally.sources[row.source] += 1
    if row.provenance.augmented is not None:
        tally.augmented[row.provenance.augmented.kind] += 1
    tally.fingerprint.add(row.to_json())
