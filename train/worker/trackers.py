"""The curves for TensorBoard and MLflow, where the recipe wants them; nothing where it does not."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.finetune.job import Job

TENSORBOARD = "tensorboard"


class Trackers:
    """Takes the points of a run's curve; ``close`` when it is over.

    Args:
        wanted: whether anything is to be written at all; one worker is enough.
    """

    def __init__(self, job: Job, *, wanted: bool) -> None:
        self._folder = job.folder
        self._board: Any = None
        self._mlflow: Any = None
        self._scratch = tempfile.TemporaryDirectory(prefix="groupqwen-tensorboard-")
        if wanted and job.recipe.tracking.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(self._board_folder)
        if wanted and job.recipe.tracking.mlflow is not None:
            import mlflow

            mlflow.set_tracking_uri(job.recipe.tracking.mlflow)
            mlflow.set_experiment("groupqwen")
            self._mlflow = mlflow.start_run(run_name=job.folder.name)
            mlflow.log_params({"model": job.recipe.model.id, "method": job.recipe.method, "seed": job.recipe.seed})

    def note(self, point: Mapping[str, float]) -> None:
        """Add a point: what ``metrics`` events hold."""
        values = {name: value for name, value in point.items() if name not in ("step", "total_steps")}
        step = int(point["step"])
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"train/{name}", value, step)
        if self._mlflow is not None:
            import mlflow

            mlflow.log_metrics(values, step=step)

    def close(self) -> None:
        """Write what is left to write."""
        if self._board is not None:
            self._board.close()
            if self._folder.local is None:
                self._folder.put(Path(self._board_folder), TENSORBOARD)
        if self._mlflow is not None:
            import mlflow

            mlflow.end_run()
        self._scratch.cleanup()

    @property
    def _board_folder(self) -> str:
        """In the run's folder; TensorBoard's writer knows no object store, so for those on this node first."""
        local = self._folder.local
        return str(local / TENSORBOARD) if local is not None else self._scratch.name
