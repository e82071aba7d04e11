"""The curated set: rows shared out into splits, with what a card needs to tell."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from train.dataset.curate.outcome import KEPT, Changed, Dropped
from train.dataset.curate.passes import RowSet
from train.dataset.curate.review import Decisions
from train.dataset.curate.shards import RowWriter, Shard
from train.dataset.curate.steps.language import language_name
from train.dataset.curate.tally import Tally
from train.dataset.disk import whole_file
from train.dataset.formats import SPLITS, Fingerprint, Lengths, SplitName, SplitSettings, placed
from train.dataset.parallel import each
from train.dataset.rows import Row


@dataclass(slots=True)
class SetFacts:
    """What is in the set.

    Attributes:
        rows: by split.
        characters: of conversations, by split.
        reviewed: what a reviewer's decisions did.
        outdated: decisions on rows that say something else by now.
        apart: what the splitting did; it drops rows that were made by augmentation out of others that are not
            trained on.
    """

    rows: Counter[SplitName] = field(default_factory=Counter)
    characters: dict[SplitName, Lengths] = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    fingerprint: Fingerprint = field(default_factory=Fingerprint)
    reviewed: Tally = field(default_factory=Tally)
    outdated: int = 0
    apart: Tally = field(default_factory=Tally)

    def add(self, row: Row, split: SplitName) -> None:
        """Count a row of a split."""
        self.rows[split] += 1
        self.characters.setdefault(split, Lengths()).add(sum(message.size for message in row.messages))
        self.languages[language_name(row)] += 1
        self.sources[row.source] += 1
        self.fingerprint.add(row.to_json())

    def merge(self, other: SetFacts) -> None:
        """Count all of ``other``."""
        self.rows.update(other.rows)
        for split, lengths in other.characters.items():
            self.characters.setdefault(split, Lengths()).merge(lengths)
        self.languages.update(other.languages)
        self.sources.update(other.sources)
        self.fingerprint.merge(other.fingerprint)
        self.reviewed.merge(other.reviewed)
        self.outdated += other.outdated
        self.apart.merge(other.apart)


@dataclass(frozen=True)
class Share:
    """Shares the rows of a shard out into pieces, one a split, in ``folder``."""

    rows: RowSet
    split: SplitSettings
    decisions: Decisions
    folder: Path

    def __call__(self, shard: Shard) -> tuple[int, SetFacts]:
        """The shard's size and what is in its pieces."""
        facts = SetFacts()
        with ExitStack() as stack:
            pieces = {
                name: RowWriter(stack.enter_context(whole_file(_piece(self.folder, shard, name)))) for name in SPLITS
            }
            for row in self.rows.read(shard):
                self._share(row, pieces, facts)
        return shard.size, facts

    def _share(self, row: Row, pieces: dict[SplitName, RowWriter], facts: SetFacts) -> None:
        facts.outdated += self.decisions.outdated(row)
        outcome = self.decisions.outcome(row)
        facts.reviewed.add(outcome)
        if isinstance(outcome, Dropped):
            return
        left = outcome.row if isinstance(outcome, Changed) else row
        split = placed(left, self.split)
        facts.apart.add(KEPT if split else Dropped("made_of_a_row_kept_apart"))
        if split:
            pieces[split].write(left)
            facts.add(left, split)


def share_out(work: Share, data: Path, workers: int, progress: Callable[[int], None]) -> SetFacts:
    """Write ``train.jsonl`` and the other splits that have rows into ``data``, in the order of the shards."""
    facts = SetFacts()
    for size, found in each(work, work.rows.shards, workers):
        facts.merge(found)
        progress(size)
    for name in SPLITS:
        if facts.rows[name]:
            with whole_file(data / f"{name}.jsonl") as out:
                _join([_piece(work.folder, shard, name) for shard in work.rows.shards], out)
    return facts


def _join(pieces: Sequence[Path], out: IO[bytes]) -> None:
    for piece in pieces:
        with open(piece, "rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
        piece.unlink()


def _piece(folder: Path, shard: Shard, split: SplitName) -> Path:
    return folder / f"{shard.number:06d}-{split}.jsonl"
