"""The recipe of the loop: a YAML file that names the recipes of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from serve.adapters.promotions import Probation, Rules
from serve.settings.base import Settings
from serve.settings.model import ModelId
from serve.settings.yaml_file import settings_in
from train.dataset.exports.group import FeedbackFilter

Text = Annotated[str, Field(min_length=1)]

#: As ``collect.tenant``: every tenant.
EVERYBODY = "everybody"


class Collect(Settings):
    """Which stored conversations are learned from.

    Attributes:
        feedback: as ``scripts/export_chat_history.py --feedback`` has it.
        tenant: whose: the id of an API key, ``local`` for what was asked without one, or ``EVERYBODY``.
        min_new: as many answers must be new since the last run, else there is nothing to learn.
    """

    feedback: FeedbackFilter = "good"
    tenant: Text
    min_new: Annotated[int, Field(ge=1)] = 50


class Serving(Settings):
    """The group that serves the model.

    Attributes:
        url: its address.
        key_variable: the environment variable with an API key, where one is required.
        wait: seconds until a published adapter must be ready there.
    """

    url: Text = "http://127.0.0.1:8000"
    key_variable: str | None = None
    wait: Annotated[float, Field(gt=0)] = 60.0


class CanaryStep(Settings):
    """What an adapter that passed the gate gets.

    Attributes:
        weight: its part of the requests for the model; 0 leaves it under its own name only.
        rules: when it is rolled back by itself.
        probation: after which it is promoted by itself; none leaves that to people.
    """

    weight: Annotated[float, Field(ge=0, le=1)] = 0.1
    rules: Rules = Rules()
    probation: Probation | None = None


class LoopSettings(Settings):
    """One loop.

    Attributes:
        model: the id under which the model is served, whose conversations are collected.
        folder: where the loop keeps its state and its data sets.
        runs: where its training runs lie: a folder, or an address that fsspec knows, such as ``s3://bucket/runs``; by
            default ``runs`` in the loop's folder.
        curate: the recipe of curation. recipe: of the training, whose data is the curated set. evaluation: the
            settings of the evaluation, whose held-out data is that of the curated set unless it names its own.
        changes: of the training's recipe, as ``python -m train.finetune --set`` takes them.
        spare_serving: train only in what serving leaves free at its minimum. Else training takes what is free, also
            where a replica is about to be started there.
        room_wait: seconds that training waits for such room before the loop ends, to go on later.
    """

    model: ModelId
    folder: Text
    runs: Text | None = None
    curate: Text
    recipe: Text
    evaluation: Text
    collect: Collect
    changes: list[Text] = []
    spare_serving: bool = True
    room_wait: Annotated[float, Field(ge=0)] = 600.0
    serving: Serving = Serving()
    canary: CanaryStep = CanaryStep()


def load_settings(path: str) -> LoopSettings:
    """Read the file and check it; relative paths in it begin in its folder.

    Raises:
        SettingsError: one line for each fault, each naming the key.
    """
    settings = settings_in(path, LoopSettings)
    here = Path(path).resolve().parent
    paths: dict[str, Any] = {
        name: str(here / Path(getattr(settings, name)).expanduser())
        for name in ("folder", "curate", "recipe", "evaluation")
    }
    if settings.runs is not None and "://" not in settings.runs:
        paths["runs"] = str(here / Path(settings.runs).expanduser())
    return settings.model_copy(update=paths)
