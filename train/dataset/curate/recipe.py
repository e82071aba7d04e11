"""The recipe of a curated set: a YAML file of named steps, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from serve.settings.base import Settings
from serve.settings.errors import SettingsError, fault_lines, worded
from serve.settings.suggest import one_of
from serve.settings.yaml_file import load_yaml
from train.dataset.curate.base import Context, RowStep, Step, Topic
from train.dataset.curate.registry import STEPS
from train.dataset.curate.selection import Cap, Mix
from train.dataset.formats.split import Seed, SplitSettings


def _known(raw: object) -> object:
    """A step of the kind that it names."""
    if isinstance(raw, Step):
        return raw
    if not isinstance(raw, Mapping) or not isinstance(raw.get("step"), str):
        raise ValueError(f"it must be a mapping with the key 'step'; known: {', '.join(sorted(STEPS))}")
    kind = STEPS.get(raw["step"])
    if kind is None:
        raise ValueError(one_of("step", raw["step"], STEPS))
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise worded(error, kind) from None


class Recipe(Settings):
    """What is done to a set.

    Attributes:
        title: of the set, on its card.
        seed: what every random choice comes from.
        keep_hidden: read ChatGPT's custom instructions as a system message.
        topics: for steps that choose by topic; the first that fits is the topic of a row.
        steps: in the order in which they are done.
        split: how rows are shared out to training, validation and test.
        license: of the set, on its card, as the hub names it.
    """

    title: str = "Curated conversations"
    seed: Seed = 0
    keep_hidden: bool = False
    topics: list[Topic] = []
    steps: Annotated[list[Annotated[SerializeAsAny[Step], BeforeValidator(_known)]], Field(min_length=1)]
    split: SplitSettings = SplitSettings()
    license: str | None = None

    @field_validator("steps")
    @classmethod
    def _have_names_of_their_own(cls, steps: list[Step]) -> list[Step]:
        seen: set[str] = set()
        for place, step in enumerate(steps):
            if step.title in seen:
                raise ValueError(f"two steps are called {step.title!r}; give steps[{place}] a name of its own")
            seen.add(step.title)
        return steps

    @model_validator(mode="after")
    def _knows_its_topics(self) -> Recipe:
        names = [topic.name for topic in self.topics]
        if len(set(names)) != len(names):
            raise ValueError("two topics have one name")
        for step in self.steps:
            if isinstance(step, Mix | Cap) and step.by == "topic" and not names:
                raise ValueError(f"the step {step.title!r} goes by topic, and there are no topics")
        return self

    def body(self) -> dict[str, Any]:
        """The recipe as JSON knows it, every setting stated and no secret among them."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, and the folder in which its paths begin."""

    recipe: Recipe
    folder: Path

    @property
    def context(self) -> Context:
        """What the steps know."""
        return Context(self.recipe.seed, tuple(self.recipe.topics), self.folder)


def load_recipe(path: str) -> LoadedRecipe:
    """Read a recipe and check it, with the files that it names.

    Raises:
        SettingsError: one line for each fault, each naming the file and the key.
        NamesUnavailable: a step requires what is not installed.
    """
    try:
        raw = load_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{path}: {line}" for line in fault_lines(error, Recipe))) from None
    loaded = LoadedRecipe(recipe, Path(path).resolve().parent)
    for place, step in enumerate(recipe.steps):
        for file in step.files(loaded.context):
            if not file.is_file():
                raise SettingsError(f"{path}: steps[{place}] ({step.title}): there is no file {file}")
        if isinstance(step, RowStep):
            step.build(loaded.context)
    return loaded
