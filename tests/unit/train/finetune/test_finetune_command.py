"""``python -m train.finetune``: what it refuses before anything is started."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from threading import Timer

import pytest
import yaml
from filelock import FileLock

from tests.finetuning import recipe
from train.finetune import command
from train.finetune.command import main
from train.finetune.faults import NoRoom
from train.finetune.job import Job


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


def test_what_may_pass_has_an_exit_code_of_its_own(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(**_: object) -> None:
        raise ConnectionError("no cluster answers")

    arguments = ["--config", config, "--storage", str(tmp_path / "runs"), "--run", "one"]
    monkeypatch.setattr("ray.init", unreachable)
    assert main(arguments) == 75
    assert "Ray can be neither reached nor started: no cluster answers" in capsys.readouterr().err
    monkeypatch.setattr(command, "_ray", nullcontext)
    with FileLock(tmp_path / "runs" / "one" / "run.lock"):
        assert main([*arguments, "--wait", "0.1"]) == 75
    assert "another process works on the run" in capsys.readouterr().err
    (tmp_path / "file").write_bytes(b"")
    assert main([*arguments, "--storage", str(tmp_path / "file")]) == 75


def test_an_attempt_waits_for_the_one_before(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"state": "succeeded"}')
    monkeypatch.setattr(command, "_ray", nullcontext)
    lock = FileLock(folder / "run.lock", thread_local=False)
    lock.acquire()
    Timer(0.3, lock.release).start()
    arguments = ["--config", config, "--storage", str(tmp_path / "runs"), "--run", "one", "--json"]
    assert main([*arguments, "--wait", "30"]) == 0
    assert '"succeeded"' in capsys.readouterr().out


@pytest.mark.parametrize("seconds", ["-1", "nan", "soon", "1e9"])
def test_a_wait_that_is_no_time_is_refused(config: str, seconds: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--config", config, "--wait", seconds])
    assert ended.value.code == 2


def test_no_room_beside_serving_has_an_exit_code_of_its_own(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spared: list[bool] = []

    def run(job: Job, *, progress: bool, wait: float, spare_serving: bool) -> None:
        spared.append(spare_serving)
        raise NoRoom("1 x (1 CPU, 0 GPU) are not free")

    monkeypatch.setattr(command, "_ray", nullcontext)
    monkeypatch.setattr(command, "run", run)
    arguments = ["--config", config, "--storage", str(tmp_path / "runs"), "--run", "one"]
    assert main([*arguments, "--spare-serving"]) == 69
    assert "are not free" in capsys.readouterr().err
    assert main(arguments) == 69
    assert spared == [True, False]
