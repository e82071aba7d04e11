"""The curves for TensorBoard and MLflow: written where they are wanted, and nowhere else; one for a run, however
often it was begun."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.finetuning import recipe
from train.finetune.job import Job
from train.run_folder import RunFolder
from train.worker.trackers import MLFLOW, TENSORBOARD, Trackers

Curve = list[tuple[int, float]]


def point(step: int, loss: float = 0.5, **more: float) -> dict[str, float]:
    return {"step": step, "total_steps": 9, "loss": loss, "learning_rate": 0.001, **more}


def job(storage: str, tmp_path: Path, **tracking: object) -> Job:
    return Job(recipe(tmp_path / "base", tmp_path / "x", tracking=tracking), RunFolder(storage, "one"))


def write(job: Job, *points: dict[str, float], begun: int = 0) -> None:
    with Trackers(job, begun=begun, wanted=True) as trackers:
        for one in points:
            trackers.note(one)


def board_of(folder: RunFolder, copy: Path) -> Any:
    """TensorBoard's own view of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for name in folder.names(TENSORBOARD):
        folder.get(f"{TENSORBOARD}/{name}", copy / name)
    board = EventAccumulator(str(copy))
    board.Reload()
    return board


def loss_on(board: Any) -> Curve:
    return [(one.step, one.value) for one in board.Scalars("train/loss")]


@pytest.fixture(params=["disk", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "runs") if request.param == "disk" else f"memory://{tmp_path.name}"


def test_tensorboards_files_land_in_the_runs_folder(tmp_path: Path, storage: str) -> None:
    found = job(storage, tmp_path, tensorboard=True)
    write(found, point(3))
    board = board_of(found.folder, tmp_path / "back")
    assert {tag: board.Scalars(tag)[0].step for tag in board.Tags()["scalars"]} == {
        "train/loss": 3,
        "train/learning_rate": 3,
    }


def test_tensorboard_has_one_curve_of_a_run_that_was_killed_and_went_on(tmp_path: Path, storage: str) -> None:
    found = job(storage, tmp_path, tensorboard=True)
    killed = Trackers(found, begun=0, wanted=True)
    killed.note(point(1, 0.5))
    killed.note(point(2, 0.25))
    killed.keep()
    if found.folder.local is not None:
        # On a disk, others see what was written after the checkpoint, too.
        killed.note(point(3, 8.0))
        killed.keep()
    # Nobody has left the context, as where a process is killed.
    write(found, point(3, 0.125), point(4, 0.0625), begun=2)
    assert loss_on(board_of(found.folder, tmp_path / "back")) == [(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.0625)]


def test_a_point_that_comes_again_with_an_evaluation_is_there_once(tmp_path: Path) -> None:
    found = job(str(tmp_path / "runs"), tmp_path, tensorboard=True)
    write(found, point(3), point(3, eval_loss=0.75), point(4))
    board = board_of(found.folder, tmp_path / "back")
    assert loss_on(board) == [(3, 0.5), (4, 0.5)]
    assert [one.step for one in board.Scalars("train/eval_loss")] == [3]


def test_nothing_is_written_where_nothing_is_wanted(tmp_path: Path) -> None:
    for wanted, tracking in ((False, {"tensorboard": True}), (True, {})):
        found = job(str(tmp_path / "runs"), tmp_path, **tracking)
        with Trackers(found, begun=0, wanted=wanted) as trackers:
            trackers.note(point(3))
            trackers.keep()
        assert found.folder.names() == []


class Mlflow:
    """A database of MLflow, and a run that is tracked in it."""

    def __init__(self, tmp_path: Path, storage: str) -> None:
        from mlflow import MlflowClient

        address = f"sqlite:///{tmp_path / 'mlflow.db'}"
        self.client = MlflowClient(address)
        self.job = job(storage, tmp_path, mlflow=address)

    def runs(self) -> list[Any]:
        experiment = self.client.get_experiment_by_name("groupqwen")
        return list(self.client.search_runs([experiment.experiment_id]))

    def points(self, run: Any, name: str) -> Curve:
        return sorted((one.step, one.value) for one in self.client.get_metric_history(run.info.run_id, name))


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that MLflow has made, for which it takes seconds."""
    client = pytest.importorskip("mlflow").MlflowClient
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow(empty_database: Path, tmp_path: Path, storage: str) -> Mlflow:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return Mlflow(tmp_path, storage)


def test_mlflow_gets_every_number(mlflow: Mlflow) -> None:
    write(mlflow.job, point(3))
    [kept] = mlflow.runs()
    assert kept.data.metrics == {"loss": 0.5, "learning_rate": 0.001}
    assert kept.data.params["model"] == "tiny"
    assert (kept.info.run_name, kept.info.status) == ("one", "FINISHED")


def test_a_run_that_goes_on_is_the_same_one_in_mlflow_and_no_point_is_there_twice(mlflow: Mlflow) -> None:
    killed = Trackers(mlflow.job, begun=0, wanted=True)
    for step in (1, 2, 3):
        killed.note(point(step, 1 / 2**step))
    _forget_the_active_run()
    # From the checkpoint of step 2. The evaluation of step 3 was not told before.
    write(mlflow.job, point(3, 0.125), point(3, 0.125, eval_loss=0.75), point(4, 0.0625), begun=2)
    [kept] = mlflow.runs()
    assert mlflow.points(kept, "loss") == [(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.0625)]
    assert mlflow.points(kept, "eval_loss") == [(3, 0.75)]
    assert kept.info.status == "FINISHED"
    assert mlflow.job.folder.read_json(MLFLOW) == {"run_id": kept.info.run_id}


@pytest.mark.parametrize("gone", ["deleted", "unknown"])
def test_a_run_that_mlflow_has_no_more_is_begun_anew(mlflow: Mlflow, gone: str) -> None:
    write(mlflow.job, point(1))
    [first] = mlflow.runs()
    mlflow.client.delete_run(first.info.run_id)
    if gone == "unknown":
        mlflow.job.folder.write_json(MLFLOW, {"run_id": "0" * 32})
    write(mlflow.job, point(2), begun=1)
    [second] = mlflow.runs()
    assert second.info.run_id != first.info.run_id
    assert mlflow.points(second, "loss") == [(2, 0.5)]


def test_a_run_that_fails_is_no_finished_one_in_mlflow(mlflow: Mlflow) -> None:
    with pytest.raises(RuntimeError), Trackers(mlflow.job, begun=0, wanted=True):
        raise RuntimeError("out of memory")
    [kept] = mlflow.runs()
    assert kept.info.status == "FAILED"


def _forget_the_active_run() -> None:
    """As where the process that has begun it is killed: MLflow is told nothing."""
    from mlflow.tracking import fluent

    stack = fluent._active_run_stack
    (stack.get() if hasattr(stack, "get") else stack).clear()
