"""Which rows are trained on and which are kept apart to judge by: whole conversations, by a stable hash.

Where a group falls depends on its own key, the seed and the weights, and on nothing else: rows that are added later
move nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from serve.settings.base import Settings
from train.dataset.rows import Row

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)

Weight = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
#: What the JSON of a report can hold.
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class SplitSettings(Settings):
    """How rows are shared out.

    Attributes:
        train, validation, test: weights; what counts is their ratio. No rows go where the weight is 0.
        seed: another seed shares out otherwise.
    """

    train: Weight = 0.95
    validation: Weight = 0.05
    test: Weight = 0.0
    seed: Seed = 0

    @model_validator(mode="after")
    def _trains_on_something(self) -> SplitSettings:
        if self.train <= 0:
            raise ValueError("train must be more than 0")
        return self


def split_of(group: str, settings: SplitSettings) -> SplitName:
    """Where the rows of a group go."""
    shares = [(name, weight) for name in SPLITS if (weight := getattr(settings, name))]
    digest = hashlib.sha256(f"{settings.seed}\n{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64 * sum(weight for _, weight in shares)
    for name, weight in shares:
        place -= weight
        if place < 0:
            return name
    # Rounding can take a place to the very end.
    return shares[-1][0]


def group_of(row: Row, clusters: Mapping[str, str] | None = None) -> str:
    """What stays together: the branches of one conversation, and what was made of it by augmentation.

    Args:
        clusters: by id of a row or of a conversation, a name in its place, such as that of its cluster of near
            duplicates.
    """
    augmented, branch = row.provenance.augmented, row.provenance.branch
    own = row.id if augmented is None else augmented.of
    if branch is not None:
        own = own.removesuffix(f"#{branch}")
    clusters = clusters or {}
    return clusters.get(row.id) or clusters.get(own) or own


def placed(row: Row, settings: SplitSettings, clusters: Mapping[str, str] | None = None) -> SplitName | None:
    """Where a row goes; none for what was made by augmentation of a row that is kept apart.

    What a model wrote is nothing to judge by, and in the training it would tell of what is.
    """
    split = split_of(group_of(row, clusters), settings)
    return None if row.provenance.augmented is not None and split != "train" else split
