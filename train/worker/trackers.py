"""The curves for TensorBoard and MLflow, where the recipe wants them; nothing where it does not.

A run that goes on from a checkpoint has one curve in both, however often it was begun: TensorBoard is told from where
the new points take the place of old ones, MLflow knows the run by an id that the run's folder keeps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from train.finetune.job import Job
from train.run_folder import RunFolder

TENSORBOARD = "tensorboard"
#: Which run of MLflow it is, in the run's folder.
MLFLOW = "mlflow.json"

_EXPERIMENT = "groupqwen"


class Trackers:
    """Takes the points of a run's curve; left as a context when it is over.

    Args:
        begun: the step that the run goes on from; 0 where it begins.
        wanted: whether anything is to be written at all; one worker is enough.
    """

    def __init__(self, job: Job, *, begun: int, wanted: bool) -> None:
        #: The last step of each value. A point comes again with what an evaluation adds to it.
        self._told: dict[str, int] = {}
        self._board = _Board(job.folder, begun) if wanted and job.recipe.tracking.tensorboard else None
        self._mlflow = _Mlflow(job) if wanted and job.recipe.tracking.mlflow is not None else None

    def note(self, point: Mapping[str, float]) -> None:
        """Add a point: what ``metrics`` events hold."""
        step = int(point["step"])
        values = {name: value for name, value in point.items() if name not in ("step", "total_steps")}
        values = {name: value for name, value in values.items() if step > self._told.get(name, -1)}
        self._told.update(dict.fromkeys(values, step))
        for tracker in (self._board, self._mlflow):
            if tracker is not None:
                tracker.note(values, step)

    def keep(self) -> None:
        """Let what there is so far be found by who goes on with the run, should this process be killed."""
        if self._board is not None:
            self._board.keep()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what is left to write."""
        if self._board is not None:
            self._board.close()
        if self._mlflow is not None:
            self._mlflow.close(failed=kind is not None)


class _Board:
    """TensorBoard's files in the run's folder."""

    def __init__(self, folder: RunFolder, begun: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        # TensorBoard's writer knows no object store, so for those on this node first.
        self._scratch = tempfile.TemporaryDirectory(prefix="groupqwen-tensorboard-")
        place = self._scratch.name if folder.local is None else str(folder.local / TENSORBOARD)
        # Points of these steps that a killed attempt has written are no longer shown.
        self._writer = SummaryWriter(place, purge_step=begun + 1)

    def note(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def keep(self) -> None:
        self._writer.flush()
        self._put()

    def close(self) -> None:
        self._writer.close()
        self._put()
        self._scratch.cleanup()

    def _put(self) -> None:
        if self._folder.local is None:
            self._folder.put(Path(self._scratch.name), TENSORBOARD)


class _Mlflow:
    """A run of MLflow: a new one, or the one that an earlier attempt has begun."""

    def __init__(self, job: Job) -> None:
        import mlflow

        mlflow.set_tracking_uri(job.recipe.tracking.mlflow)
        mlflow.set_experiment(_EXPERIMENT)
        #: The last step of each metric by earlier attempts: told again, it would be there twice, for good.
        self._told: dict[str, int] = {}
        id = _known_run(job.folder)
        if id is not None:
            self._told = _told_steps(id)
            mlflow.start_run(run_id=id)
            return
        begun = mlflow.start_run(run_name=job.folder.name)
        job.folder.write_json(MLFLOW, {"run_id": begun.info.run_id})
        mlflow.log_params({"model": job.recipe.model.id, "method": job.recipe.method, "seed": job.recipe.seed})

    def note(self, values: Mapping[str, float], step: int) -> None:
        import mlflow

        mlflow.log_metrics(
            {name: value for name, value in values.items() if step > self._told.get(name, -1)}, step=step
        )

    def close(self, *, failed: bool) -> None:
        import mlflow

        mlflow.end_run("FAILED" if failed else "FINISHED")


def _known_run(folder: RunFolder) -> str | None:
    """The id of the run that an earlier attempt has begun, where MLflow still has it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    kept = (folder.read_json(MLFLOW) or {}).get("run_id")
    if not isinstance(kept, str):
        return None
    try:
        found = MlflowClient().get_run(kept)
    except MlflowException as failure:
        if failure.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return kept if found.info.lifecycle_stage == "active" else None


def _told_steps(id: str) -> dict[str, int]:
    from mlflow import MlflowClient

    client = MlflowClient()
    names = client.get_run(id).data.metrics
    return {name: max(point.step for point in client.get_metric_history(id, name)) for name in names}
