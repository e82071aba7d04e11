"""What must hold before a job gets its place in the queue, and what is laid out for its run."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml

from serve.gateway.fine_tuning import validation
from serve.gateway.fine_tuning.programs import Ended
from tests.shapes import SMOLLM2
from tests.unit.gateway.jobs import MODEL, PAIR, Bench, bench
from train.jobs import RunFolder


async def test_a_valid_job_is_queued_with_its_plan_and_its_own_copies(one: Bench, tmp_path: Path) -> None:
    hyperparameters = {"n_epochs": 2, "learning_rate_multiplier": 0.5}
    made = await one.create(seed=11, hyperparameters=hyperparameters)
    await one.look()
    job = await one.job(made["id"])
    assert (job.status, job.error) == ("queued", None)
    assert job.queued_at is not None and job.plan is not None
    numbers = job.method["supervised"]["hyperparameters"]
    assert numbers == {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 0.5}
    run = RunFolder.of(job.run)
    recipe = yaml.safe_load(run.read("job.yaml") or b"")
    assert (recipe["seed"], recipe["objective"], recipe["schedule"]["epochs"]) == (11, "sft", 2.0)
    assert "max_steps" not in recipe["schedule"]
    assert recipe["schedule"]["learning_rate"] == pytest.approx(5e-4)
    for folder in (tmp_path / "runs", Path(job.run), Path(job.run) / "files"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    [training] = recipe["data"]["train"]
    assert Path(training).is_relative_to(job.run)
    assert Path(training).read_bytes().count(b"\n") == 3


async def test_pairs_and_a_validation_file_go_into_the_recipe(one: Bench) -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.4, "batch_size": 2}}}
    file = await one.file(PAIR)
    made = await one.create(training_file=file, validation_file=file, method=method)
    await one.look()
    recipe = yaml.safe_load(RunFolder.of(made["run"]).read("job.yaml") or b"")
    assert (recipe["objective"], recipe["beta"], recipe["schedule"]["batch_size"]) == ("dpo", 0.4, 2)
    # Not the rate of the recipe for answers.
    assert recipe["schedule"]["learning_rate"] == 5e-5
    assert [Path(path).name for path in recipe["data"]["validation"]] == ["validation_file.jsonl"]


async def test_a_recipe_with_faults_fails_the_job_with_the_fault(one: Bench) -> None:
    one.recipe.write_text(
        yaml.safe_dump({"model": {"id": MODEL, "base": "b"}, "data": {"train": ["x"]}, "wrkers": 1})
    )
    made = await one.create()
    await one.look()
    error = (await one.call("GET", f"/{made['id']}")).json()["error"]
    assert not Path(made["run"]).exists()
    assert error["code"] == "invalid_recipe"
    assert "wrkers" in error["message"] and "workers" in error["message"]


async def test_a_recipe_for_another_method_fails_the_job(one: Bench) -> None:
    recipe = yaml.safe_load(one.recipe.read_text())
    one.recipe.write_text(yaml.safe_dump({**recipe, "objective": "dpo"}))
    made = await one.create()
    await one.look()
    job = await one.job(made["id"])
    assert job.error is not None and job.error["code"] == "invalid_recipe"
    assert "for supervised has the objective dpo, not sft" in job.error["message"]


async def test_a_file_that_is_deleted_before_the_validation_fails_the_job(one: Bench) -> None:
    file = await one.file()
    made = await one.create(training_file=file)
    await one.group.keeper.remove(await one.group.store.files.get(file, "local"))
    await one.look()
    job = await one.job(made["id"])
    assert (job.status, job.error and job.error["code"]) == ("failed", "file_not_found")
    assert job.finished_at is not None
    assert (await one.told(job))[-1].level == "error"


async def test_a_job_that_can_never_fit_fails_and_says_what_there_is(one: Bench) -> None:
    one.cluster.minimum = [{"CPU": 3.5}]
    made = await one.create()
    await one.look()
    job = await one.job(made["id"])
    assert job.error is not None and job.error["code"] == "not_enough_resources"
    assert "1 x (1 CPU, 0 GPU)" in job.error["message"] and "0.5 CPU" in job.error["message"]


async def test_the_memory_of_nodes_beside_their_models_is_what_workers_get(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(SMOLLM2))
    recipe = {"model": {"id": MODEL, "base": str(base)}, "max_length": 512}
    async with bench(tmp_path / "one", recipe) as one:
        one.cluster.total["memory"] = 1e9
        made = await one.create()
        await one.look()
        job = await one.job(made["id"])
        assert job.error is not None and job.error["code"] == "not_enough_memory"
        one.cluster.total["memory"] = 20e9
        made = await one.create()
        await one.look()
        job = await one.job(made["id"])
        assert job.status == "queued" and job.plan is not None and 1e9 < job.plan["bytes"] < 8e9


async def test_a_check_of_the_recipe_that_was_killed_is_made_again(
    one: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(*_: str) -> Ended:
        return Ended(-9, b"", "")

    made = await one.create()
    with monkeypatch.context() as patched:
        patched.setattr(validation, "run_module", run)
        await one.look()
    assert (await one.job(made["id"])).status == "validating_files"
    await one.look()
    assert (await one.job(made["id"])).status == "queued"


async def test_a_gateway_that_is_not_configured_yet_fails_no_job(one: Bench) -> None:
    made = await one.create()
    settings, one.group.runner.settings = one.group.runner.settings, None
    await one.look()
    assert (await one.job(made["id"])).status == "validating_files"
    one.group.runner.settings = settings
    await one.look()
    assert (await one.job(made["id"])).status == "queued"
