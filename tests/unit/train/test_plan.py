"""What a run would need: ``python -m train.plan``, and the estimate of its memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.settings.errors import SettingsError
from tests.shapes import SMOLLM2
from train.finetune.recipe import Recipe
from train.memory import Shape, evaluation_bytes, shape_of, worker_bytes
from train.plan import main, plan_of

SHAPE = Shape(layers=30, hidden=576, queries=576, keys=192, inner=1536, vocabulary=49152)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(SMOLLM2))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump({"model": {"id": "m", "base": "base"}, "data": {"train": ["a.jsonl"]}, "max_length": 512})
    )
    return path


def parsed(**changes: Any) -> Recipe:
    return Recipe.model_validate({"model": {"id": "m", "base": "/b"}, "data": {"train": ["/a"]}, **changes})


def test_a_plan_says_what_each_worker_takes(recipe: Path) -> None:
    plan = plan_of(str(recipe), ["workers=2", "resources.cpus=1.5", "schedule.batch_size=4"], longest=100)
    assert (plan.model, plan.method, plan.workers, plan.cpus, plan.gpus, plan.batch_size) == (
        "m",
        "lora",
        2,
        1.5,
        0,
        4,
    )
    assert plan.bytes == worker_bytes(parsed(workers=2, schedule={"batch_size": 4}), SHAPE, 100)
    assert plan.evaluation_bytes == evaluation_bytes(parsed(), SHAPE, 16, 100)
    assert yaml.safe_load(plan.recipe)["workers"] == 2


def test_a_rate_multiplies_the_recipes_own_and_stays_within_its_bounds(recipe: Path) -> None:
    rate = yaml.safe_load(plan_of(str(recipe), [], rate=0.5).recipe)["schedule"]["learning_rate"]
    assert rate == pytest.approx(1e-4)
    with pytest.raises(SettingsError, match=r"schedule.learning_rate"):
        plan_of(str(recipe), [], rate=1e6)


def test_the_command_prints_json_or_one_line_for_each_fault(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(recipe), "--set", "seed=3"]) == 0
    assert yaml.safe_load(json.loads(capsys.readouterr().out)["recipe"])["seed"] == 3
    assert main(["--config", str(recipe), "--set", "sched.epochs=3", "--set", "workers=0"]) == 1
    out, errors = capsys.readouterr()
    assert out == "" and [line.count("recipe.yaml: ") for line in errors.splitlines()] == [1, 1]


def test_the_shape_of_a_checkpoint_is_that_of_its_weights(recipe: Path) -> None:
    found = shape_of(parsed(model={"id": "m", "base": str(recipe.parent / "base")}))
    assert found == SHAPE
    # 134,515,008 with the norms, as the model's card says.
    assert SHAPE.parameters == pytest.approx(134_515_008, rel=1e-3)
    assert SHAPE.adapter(16, ["q_proj", "v_proj"]) == 30 * 16 * (576 + 576 + 576 + 192)


@pytest.mark.parametrize("content", ["{}", "[", '{"num_experts": 8}', None])
def test_a_model_of_another_kind_or_elsewhere_is_not_estimated(recipe: Path, content: str | None) -> None:
    config = recipe.parent / "base" / "config.json"
    config.unlink() if content is None else config.write_text(content)
    assert plan_of(str(recipe), []).bytes is None


def test_more_of_anything_takes_more_memory() -> None:
    least = worker_bytes(parsed(), SHAPE, 128)
    for more in (
        worker_bytes(parsed(), SHAPE, 256),
        worker_bytes(parsed(schedule={"batch_size": 16}), SHAPE, 128),
        worker_bytes(parsed(lora={"rank": 256}), SHAPE, 128),
        worker_bytes(parsed(method="full"), SHAPE, 128),
        worker_bytes(parsed(objective="dpo"), SHAPE, 128),
        worker_bytes(parsed(packing=True), SHAPE, 128),
    ):
        assert more > least
    gpu = {"resources": {"gpus": 1}}
    assert worker_bytes(parsed(method="qlora", **gpu), SHAPE, 128) < worker_bytes(parsed(**gpu), SHAPE, 128) < least
