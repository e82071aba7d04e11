"""The curves for TensorBoard and MLflow: written where they are wanted, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.finetuning import recipe
from train.finetune.job import Job
from train.run_folder import RunFolder
from train.worker.trackers import TENSORBOARD, Trackers

POINT = {"step": 3, "total_steps": 9, "loss": 0.5, "learning_rate": 0.001}


def job(storage: str, tmp_path: Path, **tracking: object) -> Job:
    return Job(recipe(tmp_path / "base", tmp_path / "x", tracking=tracking), RunFolder(storage, "one"))


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_tensorboards_files_land_in_the_runs_folder(tmp_path: Path, where: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    storage = str(tmp_path / "runs") if where == "disk" else f"memory://{tmp_path.name}"
    found = job(storage, tmp_path, tensorboard=True)
    trackers = Trackers(found, wanted=True)
    trackers.note(POINT)
    trackers.close()
    [name] = found.folder.names(TENSORBOARD)
    found.folder.get(f"{TENSORBOARD}/{name}", tmp_path / "back" / name)
    board = EventAccumulator(str(tmp_path / "back"))
    board.Reload()
    assert {tag: board.Scalars(tag)[0].step for tag in board.Tags()["scalars"]} == {
        "train/loss": 3,
        "train/learning_rate": 3,
    }


def test_nothing_is_written_where_nothing_is_wanted(tmp_path: Path) -> None:
    for wanted, tracking in ((False, {"tensorboard": True}), (True, {})):
        found = job(str(tmp_path / "runs"), tmp_path, **tracking)
        trackers = Trackers(found, wanted=wanted)
        trackers.note(POINT)
        trackers.close()
        assert found.folder.names() == []


def test_mlflow_gets_every_number(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    found = job(str(tmp_path / "runs"), tmp_path, mlflow=address)
    trackers = Trackers(found, wanted=True)
    trackers.note(POINT)
    trackers.close()
    client = mlflow.tracking.MlflowClient(address)
    [kept] = client.search_runs([client.get_experiment_by_name("groupqwen").experiment_id])
    assert kept.data.metrics == {"loss": 0.5, "learning_rate": 0.001}
    assert kept.data.params["model"] == "tiny"
