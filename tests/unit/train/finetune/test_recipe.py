"""Recipes: strict about keys, clear about faults, and the same after they were written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.settings.errors import SettingsError
from tests.group import ROOT
from train.finetune import Recipe, load_recipe, parse_recipe
from train.finetune.replay import load_prompts

SMALL = "model: {id: a, base: base}\ndata: {train: [x.jsonl]}\n"
#: All but the settings of the loop and of evaluation.
SHIPPED = sorted(
    path for path in (ROOT / "configs" / "train").glob("*.yaml") if path.stem not in ("loop", "evaluation")
)


def write(tmp_path: Path, text: str = SMALL) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_recipes_are_right_once_they_have_data(path: Path) -> None:
    recipe = load_recipe(str(path), ["data.train=[chats.jsonl]", "data.validation=[more.jsonl]"])
    assert path.read_text(encoding="utf-8").startswith("# ")
    if recipe.data.replay is not None:
        prompts = load_prompts(recipe.data.replay.prompts)
        assert len(prompts) == len(set(prompts)) > 100


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_recipes_without_data_say_what_is_missing(path: Path) -> None:
    with pytest.raises(SettingsError, match=r"data\.train: this key is required"):
        load_recipe(str(path))


def test_a_recipe_that_was_written_down_is_the_same(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path), ["data.system_prompt=Grüße 😀", "schedule.early_stop=null"])
    assert parse_recipe(recipe.to_yaml(), "config.yaml") == recipe


def test_paths_begin_in_the_recipes_folder_and_those_of_changes_in_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    recipe = load_recipe(write(tmp_path), ["data.validation=[y.jsonl]", "data.replay.prompts=/p.txt"])
    assert recipe.model.base == str(tmp_path / "base")
    assert recipe.data.train == [str(tmp_path / "x.jsonl")]
    assert recipe.data.validation == [str(tmp_path / "here" / "y.jsonl")]
    assert recipe.data.replay is not None
    assert recipe.data.replay.prompts == "/p.txt"


def test_changes_reach_inside_and_keep_what_is_beside(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path), ["schedule.epochs=3", "schedule.learning_rate=2e-4", "lora.rank=8"])
    assert (recipe.schedule.epochs, recipe.schedule.learning_rate) == (3, 0.0002)
    assert (recipe.lora.rank, recipe.lora.alpha) == (8, 32)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("schedule.lr=2", "schedule.lr: unknown key"),
        ("methd=lora", "did you mean 'method'"),
        ("method=magic", "method: input should be 'lora', 'qlora' or 'full'"),
        ("schedule.epochs=0", "schedule.epochs"),
        ("workers=3", "must be a multiple of workers 3"),
        ("schedule.micro_batch_size=16", "schedule.micro_batch_size 16"),
        ("method=qlora", "method qlora needs resources.gpus"),
        ("schedule.early_stop={}", "needs data.validation"),
        ("{objective: dpo}", "is not KEY=VALUE"),
        ("data.train=[", "is not YAML"),
        ("model.base={file: x}", "model.base"),
        ("model.id=a:b", "model.id"),
    ],
)
def test_a_fault_is_told_in_a_line_that_names_the_key(tmp_path: Path, change: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_recipe(write(tmp_path), [change])
    assert told in str(caught.value)


def test_a_pair_recipe_takes_no_packing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="objective dpo takes no packing"):
        load_recipe(write(tmp_path), ["objective=dpo", "packing=true"])


@pytest.mark.parametrize("text", ["", "- a", "a: [", "a: 1\na: 2"])
def test_what_is_no_recipe_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"recipe\.yaml"):
        load_recipe(write(tmp_path, text))
    with pytest.raises(SettingsError, match="cannot be read"):
        load_recipe(str(tmp_path / "nothing.yaml"))


@pytest.mark.parametrize(
    ("batch", "workers", "micro", "expected"), [(8, 1, None, (8, 1)), (8, 2, None, (4, 1)), (8, 2, 1, (1, 4))]
)
def test_a_batch_is_shared_by_workers_and_rounds(
    batch: int, workers: int, micro: int | None, expected: tuple[int, int]
) -> None:
    recipe = Recipe.model_validate(
        {
            "model": {"id": "a", "base": "b"},
            "data": {"train": ["x"]},
            "workers": workers,
            "schedule": {"batch_size": batch, "micro_batch_size": micro},
        }
    )
    assert (recipe.micro_batch, recipe.accumulation) == expected
