"""What every step of a recipe is: typed settings that make what does the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import Field, SecretStr

from serve.settings.base import Settings
from train.dataset.curate.outcome import OnMatch, RowFunction

Share = Annotated[float, Field(ge=0, le=1, strict=False)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Topic(Settings):
    """A topic, told by words that users say.

    Attributes:
        name: what reports call it.
        keywords: words or phrases; one of them in what the user said or in the title is enough. Case does not matter.
    """

    name: Name
    keywords: Annotated[list[str], Field(min_length=1)]


@dataclass(frozen=True)
class Context:
    """What steps know of their recipe.

    Attributes:
        seed: what random choices come from.
        topics: in the order in which they are tried.
        folder: where paths in the recipe begin.
    """

    seed: int
    topics: tuple[Topic, ...]
    folder: Path


class Step(Settings):
    """A step of a recipe.

    Attributes:
        step: which one.
        name: what reports call it; its kind where none is given.
    """

    step: str
    name: Name | None = None

    @property
    def title(self) -> str:
        """The step's name in reports; no two steps of a recipe share it."""
        return self.name or self.step

    def files(self, context: Context) -> list[Path]:
        """Files whose content the step depends on."""
        return []

    def installed(self) -> str:
        """What the step depends on that may be installed or not, with its version."""
        return ""

    def notes(self) -> list[str]:
        """What the step cannot do here, in sentences for reports."""
        return []


class RowStep(Step, ABC):
    """A step that looks at one row at a time."""

    @abstractmethod
    def build(self, context: Context) -> RowFunction:
        """What is done with each row: a function of the row and of nothing else."""


class AnswerStep(RowStep):
    """A step that looks for faults in answers.

    Attributes:
        on_match: ``mask``: the answer becomes context that is not learned from, and the row is dropped when no other
            answer is left; ``drop``: the row is dropped.
    """

    on_match: OnMatch = "mask"


class WholeStep(Step):
    """A step that looks at the whole set, between two passes over the rows."""


def settings_bytes(settings: object) -> bytes:
    """Settings as bytes that differ where they do, secrets included: for hashes, never for files."""
    return orjson.dumps(settings, default=_plain, option=orjson.OPT_SORT_KEYS)


def _plain(value: object) -> object:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Settings):
        return value.model_dump()
    raise TypeError(f"{type(value).__name__} is no setting")
