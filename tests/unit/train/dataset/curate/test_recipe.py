"""Recipes: what is refused and in which words, and that the ones that ship are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.settings.errors import SettingsError
from tests.unit.train.dataset.curate.samples import DEFAULT
from train.dataset.curate.base import AnswerStep, RowStep, Step, settings_bytes
from train.dataset.curate.recipe import load_recipe
from train.dataset.curate.selection import Selection


def fault(tmp_path: Path, recipe: Any) -> str:
    """The lines in which a recipe is refused."""
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe if isinstance(recipe, str) else yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load_recipe(str(path))
    return str(refused.value)


def test_the_recipe_that_ships_is_right() -> None:
    recipe = load_recipe(str(DEFAULT)).recipe
    assert [step.title for step in recipe.steps][:2] == ["branch", "encoding"]
    assert recipe.seed == 17


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"step": "langauge"}], ["steps[0]", "langauge", "did you mean 'language'"]),
        ([{"step": "language", "allowd": []}], ["steps[0].allowd", "did you mean 'allowed'"]),
        ([{"step": "length"}, {"step": "length"}], ["two steps are called 'length'"]),
        ([{"allowed": []}], ["steps[0]", "'step'"]),
        (["language"], ["steps[0]", "'step'"]),
        ([], ["steps", "at least 1"]),
        ([{"step": "language", "confidence": 2}], ["steps[0].confidence", "less than or equal to 1"]),
        ([{"step": "length", "chars_min": 9, "chars_max": 3}], ["chars_min is above chars_max"]),
        ([{"step": "length", "tokens_max": 9}], ["tokens_max and tokenizer need each other"]),
        ([{"step": "refusals", "phrases": "gone.txt"}], ["steps[0] (refusals)", "gone.txt"]),
        ([{"step": "leakage", "against": ["gone.jsonl"]}], ["steps[0] (leakage)", "gone.jsonl"]),
        ([{"step": "leakage"}], ["steps[0].against", "required"]),
        ([{"step": "sample"}], ["give either share or rows"]),
        ([{"step": "cap", "most": 3}], ["'cap' goes by topic, and there are no topics"]),
        ([{"step": "mix", "weights": {"a": 0}}], ["steps[0].weights.a", "greater than 0"]),
        ([{"step": "mix", "weights": {"a": float("inf")}}], ["steps[0].weights.a"]),
        ([{"step": "mix", "weights": {"a": float("nan")}}], ["steps[0].weights.a"]),
        ([{"step": "mix", "weights": {"a": 1e300}}], ["steps[0].weights.a"]),
        ([{"step": "mix", "weights": {"a": 1}, "other": float("inf")}], ["steps[0].other"]),
        ([{"step": "sample", "rows": 10**24}], ["steps[0].rows"]),
        ([{"step": "personal", "kinds": ["email", "shoe"]}], ["steps[0].kinds[1]"]),
        ([{"step": "duplicates", "threshold": 0.1}], ["steps[0].threshold"]),
    ],
)
def test_a_fault_names_its_key_and_what_is_right(tmp_path: Path, steps: list[Any], words: list[str]) -> None:
    told = fault(tmp_path, {"steps": steps})
    assert [word for word in words if word not in told] == []
    assert str(tmp_path / "recipe.yaml") in told


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("seed", 10**23, "seed"),
        ("seed", -(2**63) - 1, "seed"),
        ("split", {"seed": 2**63}, "split.seed"),
        ("split", {"train": float("inf")}, "split.train"),
        ("split", {"test": 1e300}, "split.test"),
    ],
)
def test_a_number_that_no_set_can_have_is_refused(tmp_path: Path, key: str, value: Any, where: str) -> None:
    assert f"{where}: " in fault(tmp_path, {"steps": [{"step": "branch"}], key: value})


def test_every_fault_has_a_line_of_its_own(tmp_path: Path) -> None:
    steps = [{"step": "language", "allowd": []}, {"step": "brunch"}]
    told = fault(tmp_path, {"steps": steps, "sead": 1}).splitlines()
    assert len(told) == 3


@pytest.mark.parametrize("text", ["steps: [", "seed: 1\nseed: 2", "\x00", "- just\n- a list", ""])
def test_what_is_no_recipe_is_one_line(tmp_path: Path, text: str) -> None:
    assert len(fault(tmp_path, text).splitlines()) == 1


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_recipe(str(tmp_path / "gone.yaml"))


def test_two_steps_of_one_kind_need_names(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("steps: [{step: length}, {step: length, name: shorter, chars_max: 99}]", encoding="utf-8")
    assert [step.title for step in load_recipe(str(path)).recipe.steps] == ["length", "shorter"]


def test_a_secret_is_in_hashes_and_never_in_the_recipe_as_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    salt = "a salt that nobody knows"
    path.write_text(f"steps: [{{step: personal, placeholder: keyed, salt: {salt}}}]", encoding="utf-8")
    recipe = load_recipe(str(path)).recipe
    assert salt not in str(recipe.body())
    assert salt.encode() in settings_bytes(recipe.steps[0])


@pytest.mark.parametrize("kind", [RowStep, AnswerStep, Selection])
def test_a_step_that_does_not_say_what_it_does_cannot_be_made(kind: type[Step]) -> None:
    with pytest.raises(TypeError, match="abstract"):
        kind(step="new")
