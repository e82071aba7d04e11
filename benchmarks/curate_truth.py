"""What a run found, held against what was planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from benchmarks.curate_data import Planter


@dataclass
class Score:
    """Counts of one search.

    Attributes:
        planted, hit: how much there was to find, and how much of it was found; by kind.
        right, found: how much of what was found was planted, and how much was found.
    """

    planted: Counter[str] = field(default_factory=Counter)
    hit: Counter[str] = field(default_factory=Counter)
    right: int = 0
    found: int = 0

    @property
    def precision(self) -> float:
        """The share of right ones among what was found."""
        return self.right / self.found if self.found else 1.0

    def recall(self, wanted: Callable[[str], bool] = lambda kind: True) -> float:
        """The share of what was planted that was found, of the kinds wanted."""
        planted = sum(count for kind, count in self.planted.items() if wanted(kind))
        hit = sum(count for kind, count in self.hit.items() if wanted(kind))
        return hit / planted if planted else 1.0

    def body(self) -> dict[str, object]:
        """The score as JSON."""
        counts = {"planted": dict(self.planted), "hit": dict(self.hit)}
        return {
            **counts,
            "right": self.right,
            "found": self.found,
            "recall": self.recall(),
            "precision": self.precision,
        }


def groups_of_pairs(rows: int, path: Path) -> list[int]:
    """The group of each row by a file of [id, reason, id of the kept row]."""
    groups = list(range(rows))
    with path.open("rb") as file:
        for line in file:
            dropped, _, kept = orjson.loads(line)
            groups[int(dropped[1:])] = int(kept[1:])
    return groups


def duplicates(groups: Sequence[int]) -> Score:
    """Score groups of rows: a planted copy is found when it is in its original's group.

    A row that is grouped with another, which is the group's number, is right where both come from one original.
    """
    score = Score()
    planter = Planter()
    originals = np.empty(len(groups), dtype=np.int64)
    for planted in planter.rows(0, len(groups)):
        copy = planted.kind in ("exact", "near")
        originals[planted.number] = planted.of if copy else planted.number
        if copy:
            kind = planted.kind if planted.kind == "exact" else f"near, {planted.edits:.0%} of words"
            score.planted[kind] += 1
            score.hit[kind] += groups[planted.number] == groups[planted.of]
    for number, group in enumerate(groups):
        if group != number:
            score.found += 1
            score.right += int(originals[number] == originals[group])
    return score


def personal(rows: int, folder: Path) -> tuple[Score, Score]:
    """Scores of what is personal, and of what only looks so, where a hit is what survived."""
    found, survived = Score(), Score()
    lines = _lines(folder)
    for planted, line in zip(Planter().rows(0, rows), lines, strict=True):
        if planted.kind in ("near", "distant"):
            continue  # An edit may have gone through what was planted.
        text = "\n".join(message["content"] for message in orjson.loads(line)["messages"])
        hits = 0
        for kind, value in planted.personal:
            found.planted[kind] += 1
            hit = value not in text
            found.hit[kind] += hit
            hits += hit
        found.right += hits
        # A placeholder begins with a bracket, which no word of the rows has.
        found.found += text.count("[")
        for value in planted.ordinary:
            survived.planted["ordinary"] += 1
            survived.hit["ordinary"] += value in text
    return found, survived


def _lines(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            yield from file
