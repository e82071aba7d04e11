"""Steps that choose among the rows of the whole set: a sample, a mixture by weight, a cap for each group.

Each row has a number by hash of the seed, the step and its id; of each group those with the lowest numbers are kept.
So the choice depends neither on the order of the rows nor on who works on them, and a smaller sample is part of a
larger one.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from train.dataset.curate.base import Context, Count, Share, WholeStep
from train.dataset.curate.groups import By, group_function
from train.dataset.curate.passes import RowSet
from train.dataset.curate.shards import Shard
from train.dataset.rows import Row

#: Groups that a step can tell apart.
MAX_GROUPS = 1_000
#: The group of every row, where a step knows no groups.
ALL = "all"

Weight = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False, strict=False)]


class Selection(WholeStep, ABC):
    """A step that says how many rows of each group are kept."""

    @property
    def groups_by(self) -> By | None:
        """What makes a group; none where all rows are one."""
        return None

    @abstractmethod
    def targets(self, available: Mapping[str, int]) -> dict[str, int]:
        """How many rows of each group are kept, given how many there are."""

    def reason_of(self, group: str) -> str:
        """Why the other rows of a group are dropped, as reports call it."""
        return "not_chosen" if self.groups_by is None else f"not_chosen: {group}"


class Sample(Selection):
    """Keep some of the rows.

    Attributes:
        share: of all rows.
        rows: so many, or all where there are fewer.
    """

    step: Literal["sample"] = "sample"
    share: Share | None = None
    rows: Count | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.share is None) == (self.rows is None):
            raise ValueError("give either share or rows")
        return self

    def targets(self, available: Mapping[str, int]) -> dict[str, int]:
        """The one target."""
        if self.rows is not None:
            return {name: min(count, self.rows) for name, count in available.items()}
        return {name: round((self.share or 0.0) * count) for name, count in available.items()}


class Mix(Selection):
    """Keep so many rows of each group that their shares are as the weights say; no row is repeated.

    Attributes:
        by: what makes a group.
        weights: of groups, in any unit.
        other: the weight of each group that is not named; 0 drops it.
        rows: at most so many together; by default as many as the scarcest group allows.
    """

    step: Literal["mix"] = "mix"
    by: By = "source"
    weights: Annotated[dict[str, Weight], Field(min_length=1)]
    other: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False, strict=False)] = 0.0
    rows: Count | None = None

    @property
    def groups_by(self) -> By:
        """The setting ``by``."""
        return self.by

    def targets(self, available: Mapping[str, int]) -> dict[str, int]:
        """Largest remainders: the shares are met as exactly as whole rows allow."""
        weights = {name: self.weights.get(name, self.other) for name in available}
        total = sum(weights.values())
        if not total:
            return dict.fromkeys(available, 0)
        shares = {name: share for name, weight in weights.items() if (share := weight / total)}
        most = min(available[name] / share for name, share in shares.items())
        size = int(most + 1e-9) if self.rows is None else min(int(most + 1e-9), self.rows)
        found = {name: int(size * shares.get(name, 0.0)) for name in available}
        by_remainder = sorted(shares, key=lambda name: (found[name] - size * shares[name], name))
        for name in by_remainder[: size - sum(found.values())]:
            found[name] = min(found[name] + 1, available[name])
        return found


class Cap(Selection):
    """Keep at most so many rows of each group.

    Attributes:
        by: what makes a group.
        most: rows of a group.
        groups: another number for some groups.
    """

    step: Literal["cap"] = "cap"
    by: By = "topic"
    most: Count | None = None
    groups: dict[str, Count] = {}

    @model_validator(mode="after")
    def _caps_something(self) -> Self:
        if self.most is None and not self.groups:
            raise ValueError("give most, groups, or both")
        return self

    @property
    def groups_by(self) -> By:
        """The setting ``by``."""
        return self.by

    def reason_of(self, group: str) -> str:
        """Why the other rows of a group are dropped, as reports call it."""
        return f"over_cap: {group}"

    def targets(self, available: Mapping[str, int]) -> dict[str, int]:
        """The caps."""
        caps = {name: self.groups.get(name, self.most) for name in available}
        return {
            name: count if caps[name] is None else min(count, caps[name] or 0) for name, count in available.items()
        }


@dataclass(frozen=True)
class Survey:
    """Notes group and number of each row of a shard, in ``folder``."""

    before: RowSet
    step: Selection
    context: Context
    folder: Path

    def __call__(self, shard: Shard) -> dict[str, Any]:
        """How many rows each group has."""
        group_of, number_of = _functions(self.step, self.context)
        names: dict[str, int] = {}
        codes: list[int] = []
        numbers: list[int] = []
        for row in self.before.read(shard):
            codes.append(names.setdefault(group_of(row), len(names)))
            numbers.append(number_of(row))
        np.save(_noted(self.folder, shard.number, "codes"), np.array(codes, dtype=np.uint32))
        np.save(_noted(self.folder, shard.number, "numbers"), np.array(numbers, dtype=np.uint64))
        counts = Counter(codes)
        return {"number": shard.number, "groups": {name: counts[code] for name, code in names.items()}}


@dataclass(frozen=True)
class Chosen:
    """Leaves out the rows whose number is above their group's bound; a group without a bound is left out."""

    step: Selection
    context: Context
    bounds: Mapping[str, int]

    def open(self, shard: Shard) -> Callable[[int, Row], bool]:
        """What tells whether a row stays."""
        group_of, number_of = _functions(self.step, self.context)
        return lambda line, row: number_of(row) <= self.bounds.get(group_of(row), -1)


def bounds_of(folder: Path, surveys: list[dict[str, Any]], targets: Mapping[str, int]) -> dict[str, int]:
    """The number of the last row that is kept, of each group of which any is.

    Radix selection: the bounds of all groups are found 12 bits at a time, so that memory holds counts and no rows.

    Args:
        folder: where ``Survey`` notes.
        surveys: what it gave.
        targets: how many rows of each group are kept; not more than there are.
    """
    names = sorted(name for name, target in targets.items() if target)
    places = {name: place for place, name in enumerate(names)}
    bounds = np.zeros(len(names), dtype=np.uint64)
    left = np.array([targets[name] for name in names], dtype=np.int64)
    for shift in range(60, -1, -_DIGIT):
        counts = np.zeros((len(names), 1 << _DIGIT), dtype=np.int64)
        for found in surveys:
            _count_digits(counts, *_groups(folder, found, places), bounds, shift)
        reached = np.cumsum(counts, axis=1)
        digits = np.argmax(reached >= left[:, None], axis=1)
        rows = np.arange(len(names))
        left -= reached[rows, digits] - counts[rows, digits]
        bounds |= digits.astype(np.uint64) << np.uint64(shift)
    return {name: int(bound) for name, bound in zip(names, bounds, strict=True)}


_DIGIT = 12


def _groups(
    folder: Path, found: dict[str, Any], places: Mapping[str, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """The group (by its place; -1 where nothing of it is kept) and the number of each row of a shard."""
    of_code = np.array([places.get(name, -1) for name in found["groups"]] or [-1], dtype=np.int64)
    return (
        of_code[np.load(_noted(folder, found["number"], "codes"))],
        np.load(_noted(folder, found["number"], "numbers")),
    )


def _count_digits(
    counts: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.uint64],
    bounds: npt.NDArray[np.uint64],
    shift: int,
) -> None:
    """Count the rows whose higher digits are those of their group's bound, by their digit at ``shift``."""
    groups, numbers = groups[groups >= 0], numbers[groups >= 0]
    above = np.uint64(min(shift + _DIGIT, 63))
    alike = (numbers >> above) == (bounds[groups] >> above) if shift + _DIGIT < 64 else np.ones(len(groups), bool)
    digits = (numbers[alike] >> np.uint64(shift)) & np.uint64((1 << _DIGIT) - 1)
    np.add.at(counts, (groups[alike], digits.astype(np.int64)), 1)


def _functions(step: Selection, context: Context) -> tuple[Callable[[Row], str], Callable[[Row], int]]:
    """What tells the group and the number of a row."""
    group_of = group_function(step.groups_by, context) if step.groups_by else lambda row: ALL
    salt = f"{context.seed}/{step.title}/".encode()

    def number_of(row: Row) -> int:
        return int.from_bytes(hashlib.blake2b(salt + row.id.encode(), digest_size=8).digest())

    return group_of, number_of


def _noted(folder: Path, number: int, what: str) -> Path:
    return folder / f"{number:06d}.{what}.npy"
