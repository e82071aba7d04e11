"""Which rows are trained on and which are kept apart to judge by: whole conversations, by a stable hash.

Where a group falls depends on its own key, the seed and the weights, and on nothing else: rows that are added later
move nobody.
"""

from __future__ import annotations

import hashlib
import re
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

_WORD = re.compile(r"\w+")


class SplitSettings(Settings):
    """How rows are shared out.

    Attributes:
        train, validation, test: weights; what counts is their ratio. No rows go where the weight is 0.
        seed: another seed shares out otherwise.
        by: what stays together. ``conversation``: the branches of one, by its id. ``question``: all that begins with
            the same question, case and marks apart, as the turns of a chat do that are stored one by one.
    """

    train: Weight = 0.95
    validation: Weight = 0.05
    test: Weight = 0.0
    seed: Seed = 0
    by: Literal["conversation", "question"] = "conversation"

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


def question_of(row: Row) -> str:
    """The words of the first question, which stand for all conversations that begin with it; an id where there is
    none."""
    asked = next((message.content for message in row.messages if message.role == "user" and message.content), None)
    if asked is None:
        return group_of(row)
    return "question\n" + (" ".join(_WORD.findall(asked.casefold())) or asked)


def placed(row: Row, settings: SplitSettings, clusters: Mapping[str, str] | None = None) -> SplitName | None:
    """Where a row goes; none for what was made by augmentation of a row that is kept apart.

    What a model wrote is nothing to judge by, and in the training it would tell of what is. By question, where the
    question of the original is not known, all of it is dropped.
    """
    augmented = row.provenance.augmented is not None
    if settings.by == "question":
        return None if augmented else split_of(question_of(row), settings)
    split = split_of(group_of(row, clusters), settings)
    return None if augmented and split != "train" else split
