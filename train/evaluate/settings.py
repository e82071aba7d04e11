"""How an adapter is evaluated, and what it has to reach: a YAML file, checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from serve.settings.base import Settings
from serve.settings.suggest import require_distinct
from serve.settings.yaml_file import settings_in

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Text = Annotated[str, Field(min_length=1)]


class General(Settings):
    """Prompts that have nothing to do with what was learned; the base's own answers to them are what it must keep.

    Attributes:
        prompts: a file with a prompt on each line.
        max_tokens: of an answer.
    """

    prompts: Text
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 48


class Task(Settings):
    """A set of questions with what is right.

    Attributes:
        file: JSONL; each line a ``prompt`` or ``messages``, and what the kind needs: ``answer`` (a text or several),
            ``pattern``, ``schema``, or ``reference`` for a judge.
        kind: ``exact`` is the answer, white space, case and the last full stop apart; ``contains`` has it in it;
            ``regex`` and ``json_schema`` fit it; ``judge`` asks another model whether it is as the reference.
        max_tokens: of an answer.
        judge: the model that judges: an id of the group.
        least: the share that must be right; none is not demanded.
    """

    name: Name
    file: Text
    kind: Literal["exact", "contains", "regex", "json_schema", "judge"]
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 64
    judge: Text | None = None
    least: Share | None = None

    @model_validator(mode="after")
    def _has_its_judge(self) -> Task:
        if (self.kind == "judge") != (self.judge is not None):
            raise ValueError("judge names a model for the kind judge, and for no other")
        return self


class Agreement(Settings):
    """What is asked of the training stack and of the served model alike.

    Attributes:
        prompts: how many, the first of the held-out conversations.
        tokens: of each answer.
    """

    prompts: Annotated[int, Field(ge=1, le=1000)] = 20
    tokens: Annotated[int, Field(ge=1, le=1024)] = 24


class GateSettings(Settings):
    """What an adapter must reach to answer for its model; none leaves a bound out.

    Attributes:
        held_out_loss: loss on the held-out conversations over that of the base.
        perplexity_rise: by how much the perplexity of the base's own answers to general prompts may rise.
        leaks: general answers that may name what only the training data names.
        task_drop: by how much the share of right answers of a task may fall below the base's.
        agreement: the share of answers that must be the same, token for token, served and as trained.
        logprob_distance: mean distance of the logprobs of the served answers' tokens, in nats. Weights that are
            quantized otherwise than those trained on need more of it.
    """

    held_out_loss: Annotated[float, Field(gt=0)] | None = 1.0
    perplexity_rise: Annotated[float, Field(ge=0)] | None = 0.1
    leaks: Annotated[int, Field(ge=0)] | None = 0
    task_drop: Share | None = 0.02
    agreement: Share | None = 0.5
    logprob_distance: Annotated[float, Field(gt=0)] | None = 0.1


class EvaluationSettings(Settings):
    """One evaluation.

    Attributes:
        held_out: files of conversations that were not trained on, as a recipe's ``data.validation``.
        trained: files of what was trained on, to find the names that only they have.
        most: held-out conversations that are scored.
        samples: questions whose answers stand side by side in the report.
        batch_size: sequences that are scored, or answered, at once.
        max_length: tokens of the longest sequence.
        system_prompt, variables: as in the recipe of the training.
    """

    held_out: list[Text] = []
    trained: list[Text] = []
    most: Annotated[int, Field(ge=1)] = 500
    general: General | None = None
    tasks: list[Task] = []
    samples: Annotated[int, Field(ge=0, le=200)] = 10
    agreement: Agreement | None = Agreement()
    gate: GateSettings = GateSettings()
    batch_size: Annotated[int, Field(ge=1)] = 16
    max_length: Annotated[int, Field(ge=16, lt=2**31)] = 2048
    system_prompt: str | None = None
    variables: dict[str, Any] = {}

    @field_validator("tasks")
    @classmethod
    def _have_their_own_names(cls, tasks: list[Task]) -> list[Task]:
        require_distinct("task", [task.name for task in tasks])
        return tasks


def load_settings(path: str) -> EvaluationSettings:
    """Read the file and check it; relative paths in it begin in its folder.

    Raises:
        SettingsError: one line for each fault, each naming the key.
    """
    return anchored(settings_in(path, EvaluationSettings), Path(path).resolve().parent)


def anchored(settings: EvaluationSettings, folder: Path) -> EvaluationSettings:
    """The settings with their relative paths begun in ``folder``."""

    def at(path: str) -> str:
        return str(folder / Path(path).expanduser())

    general = settings.general
    return settings.model_copy(
        update={
            "held_out": [at(path) for path in settings.held_out],
            "trained": [at(path) for path in settings.trained],
            "general": general and general.model_copy(update={"prompts": at(general.prompts)}),
            "tasks": [task.model_copy(update={"file": at(task.file)}) for task in settings.tasks],
        }
    )
