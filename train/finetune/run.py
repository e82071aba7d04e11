"""A run from its recipe to its result: data, workers, checkpoints, adapter, report.

The same run can be started again at any time: what is done is not done twice, and training goes on from the last
checkpoint that is whole.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from serve.models import ModelSourceError
from serve.settings.errors import SettingsError
from train.checkpoints import CheckpointError
from train.dataset.formats import PreparedError
from train.events import EventLog, read_events
from train.finetune.base import BaseCheckpoint, base_checkpoint
from train.finetune.data import DataError, manifest_of, prepare_data
from train.finetune.job import Job
from train.finetune.plots import draw_curves
from train.finetune.recipe import parse_recipe
from train.finetune.replay import replayed
from train.finetune.result import take_result
from train.run_folder import CONFIG, CONTROL, PLOTS, RESULT, RunFolder, StorageError

Json = dict[str, Any]

#: What is wrong with what was asked for, in one line.
FAULTS = (SettingsError, DataError, PreparedError, ModelSourceError, StorageError, CheckpointError)


class RunFailed(Exception):
    """The workers failed more often than the recipe lets them; the message is one line."""


class RayUnreachable(Exception):
    """Ray can be neither reached nor started; the message is one line."""


class RunTaken(Exception):
    """Another process works on the run."""


def run(job: Job, *, progress: bool, wait: float = 0.0) -> Json:
    """Carry out a run, or go on with it; gives what ``result.json`` says, or the state ``paused``.

    Ray must be connected.

    Args:
        progress: write the progress of downloads to standard error.
        wait: seconds for another process that works on the run to end.

    Raises:
        SettingsError: the folder is that of another recipe.
        RunTaken: and not all of ``wait`` was enough.
        RunFailed
        DataError, PreparedError, ModelSourceError, CheckpointError, StorageError
    """
    events = EventLog(job.folder)
    job.folder.make()
    with _alone(job.folder, wait):
        _same_recipe(job)
        done = job.folder.read_json(RESULT)
        if done is not None:
            return done
        job.folder.remove(CONTROL)
        begun = time.monotonic()
        events.state("starting", f"the run {job.folder.name} of {job.recipe.model.id} starts")
        try:
            return _carried_out(job, events, begun, progress=progress)
        except KeyboardInterrupt:
            events.state("cancelled", "the run was cancelled; the same command goes on with it")
            raise
        except (*FAULTS, RunFailed) as fault:
            events.state("failed", str(fault), {"code": type(fault).__name__, "message": str(fault)})
            raise
        except Exception as fault:
            events.state("failed", "the run failed", {"code": type(fault).__name__, "message": first_line(fault)})
            raise


def _carried_out(job: Job, events: EventLog, begun: float, *, progress: bool) -> Json:
    base = base_checkpoint(job.recipe.model, progress=progress)
    # What is prepared has it already, and on another node the base would have to answer again.
    replay = replayed(job, base.path) if manifest_of(job.folder) is None else []
    manifest = prepare_data(job.recipe, job.folder, base.path, replay)
    counts = {name: split["rows"] for name, split in manifest["splits"].items()}
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    events.write(
        "message",
        f"to learn from: {told}" + (f"; of it replay {len(replay)}" if replay else ""),
        {"rows": counts, "fingerprint": manifest["fingerprint"], **({"replay": len(replay)} if replay else {})},
    )
    outcome = _trained(job)
    return _finished(job, events, base, manifest["fingerprint"], outcome, time.monotonic() - begun)


def _trained(job: Job) -> Json:
    """Run the workers; gives what they report at the end."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    from train.worker.loop import train_loop
    from train.worker.losses import Losses

    resources = job.recipe.resources
    trainer = TorchTrainer(
        train_loop,
        train_loop_config=job.to_config(),
        scaling_config=ScalingConfig(
            num_workers=job.recipe.workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})},
        ),
        run_config=RunConfig(
            # Ray's own notes; our checkpoints are not among them, so nothing of an earlier attempt is needed.
            name=f"{job.folder.name}-{time.time_ns()}",
            **_ray_storage(job.folder),
            failure_config=FailureConfig(max_failures=job.recipe.retries),
            callbacks=[Losses(job.folder)],
        ),
    )
    try:
        return dict(trainer.fit().return_value or {})
    except TrainingFailedError as failure:
        raise RunFailed(f"the workers failed: {_root(failure)}") from failure


def _ray_storage(folder: RunFolder) -> Json:
    """Where Ray Train keeps its notes: in the run's folder, which every node sees."""
    if folder.local is not None:
        return {"storage_path": f"{folder.address}/ray"}
    from fsspec.core import url_to_fs
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    files, root = url_to_fs(folder.address)
    return {"storage_path": f"{root}/ray", "storage_filesystem": PyFileSystem(FSSpecHandler(files))}


def _finished(
    job: Job, events: EventLog, base: BaseCheckpoint, fingerprint: str, outcome: Json, seconds: float
) -> Json:
    """Plots, the adapter and the result; all but plots only where the run is through."""
    _plot(job.folder)
    if outcome["state"] == "paused":
        events.state("paused", f"paused at step {outcome['step']}; the same command goes on")
        return {"state": "paused", "steps": outcome["step"]}
    taken = take_result(job, base, fingerprint)
    result = {
        "state": "succeeded",
        "steps": outcome["step"],
        "epochs": outcome["epoch"],
        "trained_tokens": outcome["tokens"],
        "train_loss": outcome["train_loss"],
        "eval_loss": outcome["eval_loss"],
        "stopped_early": outcome["stopped_early"],
        **taken,
        "seconds": round(seconds, 1),
        "peak_memory_bytes": outcome["peak_memory_bytes"],
    }
    job.folder.remove("ray")
    job.folder.write_json(RESULT, result)
    events.state("succeeded", f"done: {outcome['step']} steps")
    return result


def _plot(folder: RunFolder) -> None:
    with tempfile.TemporaryDirectory(prefix="groupqwen-plots-") as scratch:
        draw_curves(Path(scratch), read_events(folder))
        folder.put(Path(scratch), PLOTS)


def _same_recipe(job: Job) -> None:
    """Write the recipe down, or refuse to go on with a run of another one."""
    kept = job.folder.read(CONFIG)
    if kept is None:
        job.folder.write(CONFIG, job.recipe.to_yaml().encode())
    elif parse_recipe(kept.decode(), f"{job.folder.address}/{CONFIG}") != job.recipe:
        raise SettingsError(
            f"{job.folder.address} is the run of another recipe (its {CONFIG}); name another run with --run, or go on"
            f" with --config {job.folder.address}/{CONFIG}"
        )


@contextmanager
def _alone(folder: RunFolder, wait: float) -> Iterator[None]:
    """No other process on this run meanwhile, as far as the storage can tell."""
    if folder.local is None:
        yield
        return
    try:
        with FileLock(folder.local / "run.lock", timeout=wait, poll_interval=0.5):
            yield
    except Timeout:
        raise RunTaken(f"another process works on the run in {folder.address}") from None


def _root(failure: BaseException) -> str:
    """The first line of what a worker raised, under what Ray wraps around it."""
    causes = getattr(failure, "worker_failures", None) or {}
    inner: BaseException = next(iter(causes.values()), failure)
    while (deeper := getattr(inner, "_base_exc", None) or inner.__cause__) is not None:
        inner = deeper
    return first_line(inner)


def first_line(error: BaseException) -> str:
    """The first line that an error says, or else its name."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
