"""What a run would need, found out before it starts: ``python -m train.plan --config FILE``.

The gateway runs this for every job; people can, too. Prints JSON and exits with 0, or says what is wrong with the
recipe, one line for each fault, and exits with 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

from serve.settings.errors import SettingsError
from train.evaluate.settings import EvaluationSettings
from train.finetune.recipe import load_recipe
from train.memory import evaluation_bytes, shape_of, worker_bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked run.

    Attributes:
        recipe: every setting stated, as YAML.
        model, method, objective: of the recipe.
        workers: processes. cpus, gpus: what each takes.
        bytes: what each holds in memory, of the node or of its GPU; none where that cannot be told.
        evaluation_bytes: what the evaluation that follows holds, by its usual settings.
        n_epochs, batch_size, beta: what the recipe has of the hyperparameters of OpenAI's API.
    """

    recipe: str
    model: str
    method: str
    objective: str
    workers: int
    cpus: float
    gpus: int
    bytes: int | None
    evaluation_bytes: int | None
    n_epochs: float
    batch_size: int
    beta: float


def plan_of(config: str, changes: Sequence[str], *, rate: float = 1.0, longest: int | None = None) -> Plan:
    """The plan of a recipe.

    Args:
        config, changes: as ``load_recipe`` takes them.
        rate: what the recipe's learning rate is multiplied by.
        longest: tokens of the longest sequence of the data; none for as long as the recipe allows.

    Raises:
        SettingsError: one line for each fault.
    """
    recipe = load_recipe(config, changes)
    if rate != 1.0:
        recipe = load_recipe(config, [*changes, f"schedule.learning_rate={recipe.schedule.learning_rate * rate!r}"])
    shape, batch_size = shape_of(recipe), EvaluationSettings().batch_size
    return Plan(
        recipe=recipe.to_yaml(),
        model=recipe.model.id,
        method=recipe.method,
        objective=recipe.objective,
        workers=recipe.workers,
        cpus=recipe.resources.cpus,
        gpus=recipe.resources.gpus,
        bytes=None if shape is None else worker_bytes(recipe, shape, longest or recipe.max_length),
        evaluation_bytes=None if shape is None else evaluation_bytes(recipe, shape, batch_size, longest),
        n_epochs=recipe.schedule.epochs,
        batch_size=recipe.schedule.batch_size,
        beta=recipe.beta,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m train.plan", description="Say what a run would need.")
    parser.add_argument("--config", required=True, metavar="FILE", help="the recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of it")
    parser.add_argument("--rate", type=float, default=1.0, metavar="X", help="multiply its learning rate by this")
    parser.add_argument("--longest", type=int, metavar="N", help="tokens of the longest sequence of the data")
    options = parser.parse_args(arguments)
    try:
        plan = plan_of(options.config, options.set, rate=options.rate, longest=options.longest)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(orjson.dumps(asdict(plan), option=orjson.OPT_APPEND_NEWLINE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
