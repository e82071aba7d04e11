"""What must hold before a job gets its place in the queue: its files, its recipe, and nodes that are large enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from serve.capacity import Capacity
from serve.errors import GroupQwenError, InvalidRequest, Unavailable
from serve.gateway.fine_tuning.programs import ROOT, run_module
from serve.gateway.fine_tuning.room import bundles_of, lacks_memory, needs_of
from serve.gateway.keeper import Keeper
from serve.gateway.members import Members
from serve.room import beside_serving, could_have_room
from serve.settings.gateway import FineTuning
from serve.store import FineTuningJob, Store, StoredFile
from train.jobs import FILES, RECIPE, RunFolder

Json = dict[str, Any]

#: Says what a run needs; the gateway starts it and imports nothing of it.
PLAN_MODULE = "train.plan"
#: Characters of a text for each of its tokens, at least: an estimate of memory should rather be too large.
_CHARACTERS_PER_TOKEN = 2
#: Tokens that a template adds to a short conversation.
_TEMPLATE_TOKENS = 64

#: Method of the API -> a recipe's word for it.
_OBJECTIVES = {"supervised": "sft", "dpo": "dpo"}

AskCapacity = Callable[[], Awaitable[Capacity]]


class Validation:
    """Checks jobs, and lays out the folders of their runs."""

    def __init__(self, store: Store, keeper: Keeper, members: Members, ask_capacity: AskCapacity) -> None:
        self._files = store.files
        self._keeper = keeper
        self._members = members
        self._ask_capacity = ask_capacity

    async def checked(self, job: FineTuningJob, settings: FineTuning) -> FineTuningJob:
        """The job with its plan and with the hyperparameters that it will have.

        Raises:
            InvalidRequest: why it cannot be carried out.
            GroupQwenError: it could not be found out now.
        """
        run = RunFolder.of(job.run)
        training = await self._taken(run, "training_file", job.training_file, job.tenant)
        validation = None
        if job.validation_file is not None:
            validation = await self._taken(run, "validation_file", job.validation_file, job.tenant)
        plan = await self._plan(job, settings, run, [one for one in (training, validation) if one is not None])
        await self._keeper.run(run.write, RECIPE, plan.pop("recipe").encode())
        found = replace(job, plan=plan, method=_resolved(job, plan))
        await self._require_room(found)
        return found

    async def _taken(self, run: RunFolder, param: str, id: str, tenant: str) -> StoredFile:
        """A file of the job, copied into the run's folder: a job outlives the files that it is made from."""
        file = await found_file(self._files.get, param, id, tenant)
        target = Path(run.address) / FILES / f"{param}.jsonl"
        await self._keeper.run(run.make)
        await self._keeper.run(target.parent.mkdir, mode=0o700, exist_ok=True)
        await self._keeper.copy(file, target)
        return file

    async def _plan(self, job: FineTuningJob, settings: FineTuning, run: RunFolder, files: list[StoredFile]) -> Json:
        """What the recipe of the model comes to with the job's own wishes."""
        method = job.method["type"]
        recipe = recipe_of(job.model, method, settings)
        changes = _changes(job, Path(run.address) / FILES)
        longest = max((one.validation or {}).get("longest", 0) for one in files)
        wanted = job.method[method]["hyperparameters"]
        rate = wanted["learning_rate_multiplier"]
        ended = await run_module(
            PLAN_MODULE,
            f"--config={_anchored(recipe)}",
            *(f"--set={key}={orjson.dumps(value).decode()}" for key, value in changes.items()),
            f"--rate={1.0 if rate == 'auto' else rate}",
            f"--longest={longest // _CHARACTERS_PER_TOKEN + _TEMPLATE_TOKENS}",
        )
        if ended.passing:
            raise Unavailable(f"The recipe could not be checked: {ended.last_error}")
        if ended.exit_code:
            raise InvalidRequest(f"The recipe cannot be carried out: {ended.last_error}", code="invalid_recipe")
        plan: Json = orjson.loads(ended.output)
        if plan["model"] != job.model:
            raise InvalidRequest(
                f"The recipe of {job.model!r} is one for the model {plan['model']!r}.", code="invalid_recipe"
            )
        if plan["objective"] != _OBJECTIVES[method]:
            raise InvalidRequest(
                f"The recipe of {job.model!r} for {method} has the objective {plan['objective']}, not"
                f" {_OBJECTIVES[method]}.",
                code="invalid_recipe",
            )
        if plan["method"] == "full":
            raise InvalidRequest(
                f"The recipe of {job.model!r} trains all weights; over the API, adapters are trained.",
                code="invalid_recipe",
            )
        return plan

    async def _require_room(self, job: FineTuningJob) -> None:
        """Raise where the job could never start on the nodes that there are."""
        capacity = await self._ask_capacity()
        if not could_have_room(capacity, bundles_of(job)):
            has = beside_serving(capacity)
            raise InvalidRequest(
                f"The job takes {needs_of(job)}; beside the least that serving takes, the nodes have"
                f" {has.get('CPU', 0):g} CPU and {has.get('GPU', 0):g} GPU.",
                code="not_enough_resources",
            )
        if (lacks := lacks_memory(capacity, self._members.all(), job)) is not None:
            raise InvalidRequest(f"{lacks} A smaller batch_size takes less.", code="not_enough_memory")


async def found_file(
    get: Callable[[str, str], Awaitable[StoredFile]], param: str, id: str, tenant: str
) -> StoredFile:
    """A file of the caller that was validated as one to learn from.

    Raises:
        InvalidRequest: there is none of that id, or it is for something else.
    """
    try:
        file = await get(id, tenant)
    except GroupQwenError as error:
        if error.status != 404:
            raise
        raise InvalidRequest(f"There is no file {id!r}.", param=param, code="file_not_found") from None
    if file.purpose != "fine-tune":
        raise InvalidRequest(
            f"The file {id!r} was uploaded with the purpose {file.purpose!r}; it must be 'fine-tune'.", param=param
        )
    return file


def require_form(file: StoredFile, method: str, param: str) -> None:
    """Raise where a file's examples are not those that a method learns from."""
    found = file.validation or {}
    examples, pairs = found.get("examples", 0), found.get("preferences", 0)
    if method == "dpo" and not pairs:
        raise InvalidRequest(
            "The method dpo learns from pairs of answers, and the file has none.", param=param, code="wrong_examples"
        )
    if method == "supervised" and pairs:
        raise InvalidRequest(
            f"The method supervised learns from single answers, and {pairs} of the file's {examples} examples are"
            " pairs; use the method dpo.",
            param=param,
            code="wrong_examples",
        )


def recipe_of(model: str, method: str, settings: FineTuning) -> str:
    """The recipe that is stated for a model and a method of the API.

    Raises:
        InvalidRequest: there is none.
    """
    known = {id: found for id, recipes in settings.recipes.items() if (found := recipes.of(method)) is not None}
    if model in known:
        return known[model]
    names = ", ".join(sorted(known)) or "none; see fine_tuning.recipes of the gateway's config"
    raise InvalidRequest(
        f"The model {model!r} cannot be tuned by the method {method}. Models that can: {names}.",
        param="method" if model in settings.recipes else "model",
        code="model_not_tunable",
    )


def _anchored(recipe: str) -> Path:
    """Where a recipe of the settings lies."""
    return ROOT / Path(recipe).expanduser()


def _changes(job: FineTuningJob, files: Path) -> Json:
    """The job's wishes as changes of a recipe."""
    method = job.method["type"]
    wanted = job.method[method]["hyperparameters"]
    changes: Json = {
        "seed": job.seed,
        "data.train": [str(files / "training_file.jsonl")],
        "data.validation": [str(files / "validation_file.jsonl")] if job.validation_file else [],
    }
    if job.validation_file is None:
        changes["schedule.early_stop"] = None
    if wanted["n_epochs"] != "auto":
        changes |= {"schedule.epochs": float(wanted["n_epochs"]), "schedule.max_steps": None}
    if wanted["batch_size"] != "auto":
        changes["schedule.batch_size"] = wanted["batch_size"]
    if wanted.get("beta", "auto") != "auto":
        changes["beta"] = wanted["beta"]
    return changes


def _resolved(job: FineTuningJob, plan: Json) -> Json:
    """The method with numbers in the place of ``auto``."""
    kind = job.method["type"]
    wanted = job.method[kind]["hyperparameters"]
    epochs = plan["n_epochs"]
    known = {
        "n_epochs": int(epochs) if epochs == int(epochs) else epochs,
        "batch_size": plan["batch_size"],
        "learning_rate_multiplier": 1.0,
        "beta": plan["beta"],
    }
    numbers = {name: known[name] if value == "auto" else value for name, value in wanted.items()}
    return {"type": kind, kind: {"hyperparameters": numbers}}
