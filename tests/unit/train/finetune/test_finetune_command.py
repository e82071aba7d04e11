"""``python -m train.finetune``: what it refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.finetuning import recipe
from train.finetune.command import main


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe(tmp_path / "base", tmp_path / "chats.jsonl").to_yaml(), encoding="utf-8")
    return str(path)


def test_check_shows_the_whole_recipe(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", config, "--check", "--set", "schedule.epochs=7"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["schedule"]["epochs"] == 7
    assert shown["schedule"]["max_grad_norm"] == 1.0


def test_a_fault_of_the_recipe_is_one_line(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", config, "--check", "--set", "schedule.epoch=7"]) == 1
    assert capsys.readouterr().err == (
        f"error: {config}: schedule.epoch: unknown key; did you mean 'epochs'? allowed: batch_size, early_stop,"
        " epochs, learning_rate, max_grad_norm, max_steps, micro_batch_size, scheduler, warmup, weight_decay\n"
    )


def test_a_bad_run_name_is_refused(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", config, "--storage", str(tmp_path / "runs"), "--run", "../x"]) == 1
    assert "run name" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
