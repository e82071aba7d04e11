"""The recipe of a training run: a YAML file, checked before anything is loaded.

A recipe says everything that decides about the result, so the same recipe, data and seed give the same adapter.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from serve.settings.base import Settings
from serve.settings.errors import SettingsError, fault_lines
from serve.settings.model import ModelId
from serve.settings.weights import Sha256, Weights, weights_of
from serve.settings.yaml_file import load_yaml
from train.dataset.formats.split import Seed

#: The linear layers of the models of the Llama and Qwen families.
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

Files = list[Annotated[str, Field(min_length=1)]]


def _base(raw: object) -> object:
    """A path as it is; a mapping as the form of weights that its keys ask for."""
    return raw if isinstance(raw, str) else weights_of(raw)


def _number(raw: object) -> object:
    """YAML takes ``2e-4`` for a text, for want of a point."""
    try:
        return float(raw) if isinstance(raw, str) else raw
    except ValueError:
        return raw


class TunedModel(Settings):
    """The model that is tuned.

    Attributes:
        id: under which it is served; adapters are published for it.
        base: its checkpoint: the path of a folder in Hugging Face's layout or of a GGUF file, or weights as a group's
            config states them. A GGUF file is turned into a checkpoint.
        served_sha256: of the weights that are served, where they are others than those that are trained on.
    """

    id: ModelId
    base: Annotated[Annotated[str, Field(min_length=1)] | Weights, BeforeValidator(_base)]
    served_sha256: list[Sha256] = []


class LoraSettings(Settings):
    """The adapter (https://arxiv.org/abs/2106.09685).

    Attributes:
        rank: of its matrices. alpha: what it adds is multiplied by alpha / rank.
        dropout: the share of its inputs that is left out at each step.
        target_modules: the layers that it changes.
    """

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[float, Field(gt=0, lt=1e6)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[list[str], Field(min_length=1)] = list(LINEAR_LAYERS)


class ReplaySettings(Settings):
    """The base's own answers to general prompts, learned beside the data so that the model does not forget them.

    Attributes:
        prompts: a file with a prompt on each line.
        weight: how often each answer comes for one time through the data; may be broken, as 0.5.
        max_tokens: of an answer.
        batch_size: prompts that are answered at once.
    """

    prompts: Annotated[str, Field(min_length=1)]
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 96
    batch_size: Annotated[int, Field(ge=1)] = 32


class DataSettings(Settings):
    """What is learned from: files of conversations in OpenAI's chat form, or of rows; folders of curated sets.

    Attributes:
        train, validation: files; of a folder of a curated set, the split of that name is taken.
        system_prompt: for conversations without one: what the model is served with.
        variables: for the chat template, such as ``{"enable_thinking": false}``.
        replay: against forgetting; none for none.
    """

    train: Annotated[Files, Field(min_length=1)]
    validation: Files = []
    system_prompt: str | None = None
    variables: dict[str, Any] = {}
    replay: ReplaySettings | None = None


class EarlyStop(Settings):
    """When nothing is gained any more.

    Attributes:
        patience: evaluations in a row that may pass without a lower loss.
        min_delta: by how much a loss must be lower to count.
    """

    patience: Annotated[int, Field(ge=1)] = 3
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class Schedule(Settings):
    """How long and how fast.

    Attributes:
        epochs: times through the data. max_steps: stops earlier, if set.
        batch_size: sequences of one step, over all workers.
        micro_batch_size: sequences that a worker holds at once; its whole share of a batch where it is not set.
        warmup: the share of the steps in which the learning rate rises.
        max_grad_norm: longer gradients are shortened to it.
        early_stop: ends a run whose loss on the validation data no longer falls.
    """

    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 8
    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, BeforeValidator(_number), Field(gt=0, lt=1)] = 2e-4
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    early_stop: EarlyStop | None = None


class CheckpointSettings(Settings):
    """When the run is saved, and judged by the validation data where there is some.

    Attributes:
        every: steps.
        keep: of the last ones; the best one is kept as well.
    """

    every: Annotated[int, Field(ge=1)] = 100
    keep: Annotated[int, Field(ge=1)] = 2


class Resources(Settings):
    """What each worker takes of the cluster.

    Attributes:
        threads: that it computes with; as many as ``cpus`` where it is not set.
        niceness: of its processes: those of 0, which serve, go first on a busy processor.
    """

    cpus: Annotated[float, Field(gt=0)] = 1.0
    gpus: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(ge=1)] | None = None
    niceness: Annotated[int, Field(ge=0, le=19)] = 15

    @property
    def compute_threads(self) -> int:
        """How many threads a worker computes with."""
        return self.threads or max(1, round(self.cpus))


class Tracking(Settings):
    """Where the curves go beside the run's own events and plots.

    Attributes:
        tensorboard: write TensorBoard's files into the run's folder.
        mlflow: the address of a tracking server, or of a database such as ``sqlite:////srv/mlflow.db``.
    """

    tensorboard: bool = False
    mlflow: Annotated[str, Field(min_length=1)] | None = None


class Recipe(Settings):
    """Everything that a run needs to know.

    Attributes:
        method: an adapter, an adapter over weights of 4 bits (GPUs only), or all weights.
        objective: from answers, or from pairs of a better and a worse one (https://arxiv.org/abs/2305.18290).
        beta: for pairs: how strongly the model is held to what it was.
        engine: ``auto`` is Unsloth, and PEFT alone where Unsloth refuses the model.
        max_length: tokens of the longest sequence. packing: several in one row, so that little is padding.
        workers: processes that share each batch.
        retries: how often lost workers are started again, from the last checkpoint.
        precision: of the arithmetic; ``auto`` is what the hardware does best.
    """

    model: TunedModel
    method: Literal["lora", "qlora", "full"] = "lora"
    objective: Literal["sft", "dpo"] = "sft"
    beta: Annotated[float, Field(gt=0)] = 0.1
    engine: Literal["auto", "unsloth", "peft"] = "auto"
    lora: LoraSettings = LoraSettings()
    data: DataSettings
    schedule: Schedule = Schedule()
    max_length: Annotated[int, Field(ge=16, lt=2**31)] = 2048
    packing: bool = False
    seed: Seed = 0
    workers: Annotated[int, Field(ge=1)] = 1
    resources: Resources = Resources()
    checkpoint: CheckpointSettings = CheckpointSettings()
    retries: Annotated[int, Field(ge=0)] = 3
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.schedule.batch_size % (self.workers * self.micro_batch):
            raise ValueError(
                f"schedule.batch_size {self.schedule.batch_size} must be a multiple of workers {self.workers}"
                f" times schedule.micro_batch_size {self.micro_batch}"
            )
        if self.method == "qlora" and not self.resources.gpus:
            raise ValueError("method qlora needs resources.gpus; without a GPU, method must be lora or full")
        if self.schedule.early_stop is not None and not self.data.validation:
            raise ValueError("schedule.early_stop needs data.validation to judge by")
        if self.objective == "dpo" and (self.packing or self.data.replay is not None):
            raise ValueError("objective dpo takes no packing and no data.replay")
        return self

    @property
    def micro_batch(self) -> int:
        """Sequences that a worker holds at once."""
        return self.schedule.micro_batch_size or max(1, self.schedule.batch_size // self.workers)

    @property
    def accumulation(self) -> int:
        """How many times a worker goes forth and back for one step."""
        return self.schedule.batch_size // (self.workers * self.micro_batch)

    def to_yaml(self) -> str:
        """The recipe with every setting stated, as it can be read again."""
        body = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(body, sort_keys=False, allow_unicode=True)


def load_recipe(path: str, changes: Iterable[str] = ()) -> Recipe:
    """Read a recipe and check it.

    Args:
        path: of the file; relative paths in it begin in its folder.
        changes: ``KEY=VALUE``, such as ``schedule.epochs=2``; the value is YAML, and its paths begin in the current
            folder.

    Raises:
        SettingsError: one line for each fault, each naming the key.
    """
    try:
        raw = load_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise SettingsError(f"{path}: must be a mapping of settings")
    _anchor(raw, Path(path).resolve().parent)
    for change in changes:
        _change(raw, change)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{path}: {line}" for line in fault_lines(error, Recipe))) from None


def parse_recipe(text: str, where: str) -> Recipe:
    """The recipe in ``text``, which ``to_yaml`` wrote.

    Raises:
        SettingsError: one line for each fault, each naming the key.
    """
    try:
        return Recipe.model_validate(load_yaml(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            raise SettingsError("\n".join(f"{where}: {line}" for line in fault_lines(error, Recipe))) from None
        raise SettingsError(f"{where}: is not YAML: {' '.join(str(error).split())}") from None


def _change(raw: dict[str, Any], change: str) -> None:
    """Carry out one ``KEY=VALUE``."""
    key, equals, text = change.partition("=")
    names = key.split(".")
    if not equals or not all(names):
        raise SettingsError(f"{change!r} is not KEY=VALUE, such as schedule.epochs=2")
    try:
        value = load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SettingsError(f"{key}: {text!r} is not YAML") from None
    nested = value
    for name in reversed(names):
        nested = {name: nested}
    _anchor(nested, Path.cwd())
    inside: dict[str, Any] = raw
    for name in names[:-1]:
        if not isinstance(inside.get(name), dict):
            inside[name] = {}
        inside, nested = inside[name], nested[name]
    inside[names[-1]] = nested[names[-1]]


def _anchor(raw: dict[str, Any], folder: Path) -> None:
    """Make the paths in a recipe absolute; what is of a wrong type is left to be found at fault."""
    for owner, name in (("model", "base"), ("data", "train"), ("data", "validation"), ("data", "replay")):
        part = raw.get(owner)
        if not isinstance(part, dict) or name not in part:
            continue
        value = part[name]
        if isinstance(value, list):
            part[name] = [_absolute(one, folder) for one in value]
        elif name == "replay" and isinstance(value, dict) and "prompts" in value:
            part[name] = {**value, "prompts": _absolute(value["prompts"], folder)}
        else:
            part[name] = _absolute(value, folder)


def _absolute(value: object, folder: Path) -> object:
    return str(folder / Path(value).expanduser()) if isinstance(value, str) and value else value
