"""What a run did, in numbers: for a program, a person, and the set's card. Never with what was said or found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.dataset.curate.reading import InputFile
from train.dataset.curate.recipe import Recipe
from train.dataset.curate.sets import SetFacts
from train.dataset.curate.tally import Tally
from train.dataset.exports import Reason
from train.dataset.exports.problems import printable
from train.dataset.formats import SPLITS, CardFacts, SplitFacts, StepFacts

Json = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What happened.

    Attributes:
        recipe: what was asked for.
        inputs: the files.
        read: what the stage of reading gave.
        steps: what each step did, in order; reading is the first.
        facts: what is in the set.
    """

    recipe: Recipe
    inputs: Sequence[InputFile]
    read: Mapping[str, Any]
    steps: Sequence[tuple[str, Tally]]
    facts: SetFacts

    @property
    def fingerprint(self) -> str:
        """Of the set's rows and of the recipe."""
        return self.facts.fingerprint.value(self.recipe.body())

    @property
    def faults(self) -> int:
        """How many faults of the input were skipped."""
        return faults(self.read)

    def body(self) -> Json:
        """The report as JSON; the same inputs and recipe give the same bytes."""
        return {
            "title": self.recipe.title,
            "fingerprint": self.fingerprint,
            "inputs": [{"name": file.name, "sha256": file.sha256, "bytes": file.size} for file in self.inputs],
            "skipped": self.read["skipped"],
            "passed_over": self.read["passed_over"],
            "problems": self.read["problems"],
            "steps": [{"name": name, **tally.body()} for name, tally in self.steps],
            "notes": self._undone(),
            "decisions_outdated": self.facts.outdated,
            "splits": {
                name: {"rows": self.facts.rows[name], "characters": self.facts.characters[name].body()}
                for name in self._splits()
            },
            "sources": dict(sorted(self.facts.sources.items())),
            "languages": dict(sorted(self.facts.languages.items())),
        }

    def text(self) -> str:
        """The report as a table for a terminal."""
        lines = [("step", "kept", "changed", "dropped", "why")]
        lines += [(name, *_counts(tally), _why(tally)) for name, tally in self.steps]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        table = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:4], widths[1:]), line[4]]).rstrip()
            for line in lines
        ]
        splits = ", ".join(f"{name} {self.facts.rows[name]:,}" for name in self._splits())
        notes = [
            f"{sum(self.facts.rows.values()):,} rows: {splits}",
            f"fingerprint {self.fingerprint}",
            *self._notes(),
        ]
        return "\n".join([*table, *notes])

    def card(self) -> CardFacts:
        """The report for the set's card."""
        return CardFacts(
            title=self.recipe.title,
            splits={
                name: SplitFacts(f"data/{name}.jsonl", self.facts.rows[name], self.facts.characters[name])
                for name in self._splits()
            },
            fingerprint=self.fingerprint,
            sources=self.facts.sources,
            languages=self.facts.languages,
            steps=[StepFacts(name, tally.kept, tally.changed, tally.reasons) for name, tally in self.steps],
            settings=self.recipe.body(),
            notes=self._undone(),
            license=self.recipe.license,
        )

    def _splits(self) -> list[Any]:
        return [name for name in SPLITS if self.facts.rows[name]]

    def _undone(self) -> list[str]:
        return [note for step in self.recipe.steps for note in step.notes()]

    def _notes(self) -> list[str]:
        notes = self._undone()
        for name in SPLITS:
            if getattr(self.recipe.split, name) and not self.facts.rows[name]:
                notes.append(f"no row fell into {name}: the set is small")
        if self.facts.outdated:
            notes.append(
                f"{self.facts.outdated:,} decisions of a reviewer are on rows that say something else by now"
            )
        if self.read["passed_over"]:
            told = ", ".join(f"{printable(reason)} {count:,}" for reason, count in self.read["passed_over"].items())
            notes.append(f"files without conversations: {told}")
        return notes


def faults(read: Mapping[str, Any]) -> int:
    """How many of the problems of reading are faults."""
    found = Counter(read["skipped"])
    found.update(read["passed_over"])
    return sum(count for reason, count in found.items() if Reason(reason).fault)


def _counts(tally: Tally) -> tuple[str, str, str]:
    return f"{tally.kept:,}", f"{tally.changed:,}", f"{tally.dropped:,}"


def _why(tally: Tally) -> str:
    """Reasons, the most frequent first; changes are marked by a plus."""
    dropped = [(count, reason) for reason, count in tally.reasons.items() if count]
    changed = [(count, f"+{kind}") for kind, count in tally.changes.items() if count]
    ordered = sorted(dropped, key=_most_first) + sorted(changed, key=_most_first)
    return ", ".join(f"{printable(name)} {count:,}" for count, name in ordered)


def _most_first(item: tuple[int, str]) -> tuple[int, str]:
    return -item[0], item[1]
