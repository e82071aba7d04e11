"""Requests of the fine-tuning API, as OpenAI's (https://platform.openai.com/docs/api-reference/fine-tuning/create)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve.protocol.requests import Metadata
from serve.settings.model import AdapterName

#: Seeds that every library of a training takes.
MAX_SEED = 2**32 - 1
#: So that an adapter's name has room for what tells jobs apart.
MAX_SUFFIX = 40

Auto = Literal["auto"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)


class Hyperparameters(_Body):
    """How to learn; ``auto`` is what the model's recipe says."""

    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=1000)] | Auto = "auto"


class DpoHyperparameters(Hyperparameters):
    """How to learn from pairs; ``beta`` is how strongly the model is held to what it was."""

    beta: Annotated[float, Field(gt=0, le=100)] | Auto = "auto"


class SupervisedMethod(_Body):
    """Learning from answers."""

    hyperparameters: Hyperparameters = Hyperparameters()


class DpoMethod(_Body):
    """Learning from pairs of a better and a worse answer."""

    hyperparameters: DpoHyperparameters = DpoHyperparameters()


class Method(_Body):
    """How the model is tuned."""

    type: Literal["supervised", "dpo"]
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None

    @model_validator(mode="after")
    def _is_of_its_type(self) -> Method:
        other = "dpo" if self.type == "supervised" else "supervised"
        if getattr(self, other) is not None:
            raise ValueError(f"{other} does not belong to a method of the type {self.type!r}")
        return self

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Those of its type."""
        if self.type == "dpo":
            return (self.dpo or DpoMethod()).hyperparameters
        return (self.supervised or SupervisedMethod()).hyperparameters


class FineTuningRequest(_Body):
    """``POST /v1/fine_tuning/jobs``.

    ``suffix`` is put before the name of the adapter that comes out; ``hyperparameters`` is the older way to say what
    ``method`` says.
    """

    model: Annotated[str, Field(min_length=1, max_length=200)]
    training_file: Annotated[str, Field(min_length=1, max_length=128)]
    validation_file: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    suffix: Annotated[AdapterName, Field(max_length=MAX_SUFFIX)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _says_it_once(self) -> FineTuningRequest:
        if self.method is not None and self.hyperparameters is not None:
            raise ValueError("hyperparameters and method cannot both be given; use method")
        return self

    @property
    def wanted_method(self) -> Method:
        """The method, in whichever way it was said."""
        if self.method is not None:
            return self.method
        return Method(
            type="supervised", supervised=SupervisedMethod(hyperparameters=self.hyperparameters or Hyperparameters())
        )


class JobQuery(_Body):
    """Which jobs to list; ``metadata[key]=value`` filters too."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = None


class EventQuery(_Body):
    """Which events to list."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = None


class CheckpointQuery(_Body):
    """Which checkpoints to list."""

    limit: Annotated[int, Field(ge=1, le=100)] = 10
    after: str | None = None


class LogQuery(_Body):
    """How much of what a job printed: its last lines."""

    tail: Annotated[int, Field(ge=1, le=100_000)] = 1000
