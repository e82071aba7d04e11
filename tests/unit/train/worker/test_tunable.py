"""Which engine a run is trained by, where its workers do not agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.finetuning import recipe
from train.finetune.recipe import Recipe
from train.worker import group, tunable
from train.worker.tunable import EngineRefused, Tunable, load_tunable

Load = Callable[[str], tuple[str, list[str]]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads as the first of two workers, which can use Unsloth; gives the engine, and what was told."""
    wanted = recipe(tmp_path / "base", tmp_path / "chats.jsonl")
    monkeypatch.setattr(tunable, "_refused", lambda recipe: None)
    for engine in ("unsloth", "peft"):
        made = Tunable(None, None, engine, 1)
        monkeypatch.setattr(tunable, f"_by_{engine}", lambda recipe, base, made=made: made)

    def load(engine: str) -> tuple[str, list[str]]:
        told: list[str] = []
        changed: Recipe = wanted.model_copy(update={"engine": engine})
        return load_tunable(changed, tmp_path, told.append).engine, told

    return load


def others(monkeypatch: pytest.MonkeyPatch, *reasons: str | None) -> None:
    """What the second worker says, each time that all are asked."""
    said = list(reasons)

    def from_all(value: Any) -> list[Any]:
        return [value, said.pop(0)]

    monkeypatch.setattr(group, "from_all", from_all)


def test_unsloth_trains_where_all_workers_can_use_it(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    others(monkeypatch, None, None)
    assert load("auto") == ("unsloth", [])


@pytest.mark.parametrize("said", [("it is not there",), (None, "out of memory")])
def test_all_do_without_unsloth_where_one_cannot_use_it_and_it_is_told(
    load: Load, monkeypatch: pytest.MonkeyPatch, said: tuple[str | None, ...]
) -> None:
    others(monkeypatch, *said)
    engine, [told] = load("auto")
    assert engine == "peft"
    assert told.endswith(f"worker 1: {said[-1]}")


def test_unsloth_is_not_done_without_where_the_recipe_insists(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    others(monkeypatch, "it is not there")
    with pytest.raises(EngineRefused, match="worker 1: it is not there"):
        load("unsloth")


def test_4_bits_are_not_trained_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wanted = recipe(tmp_path / "base", tmp_path / "x", method="qlora", engine="peft", resources={"gpus": 1})
    with pytest.raises(EngineRefused, match="method qlora needs a GPU, and torch sees none"):
        load_tunable(wanted, tmp_path, print)
