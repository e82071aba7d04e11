"""What a run is, as every process of it knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from train.finetune.recipe import Recipe
from train.run_folder import RunFolder

Json = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A recipe and the folder of its run."""

    recipe: Recipe
    folder: RunFolder

    def to_config(self) -> Json:
        """Plain data, as Ray Train hands it to workers."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "storage": self.folder.storage,
            "name": self.folder.name,
        }

    @classmethod
    def from_config(cls, config: Json) -> Self:
        """What ``to_config`` gave."""
        return cls(Recipe.model_validate(config["recipe"]), RunFolder(config["storage"], config["name"]))
