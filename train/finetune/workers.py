"""The workers of a run: started where there is room for them, and again where they were lost.

Ray Train would start lost workers again by itself, and wait for resources for as long as it takes. Neither is left to
it: before each start it is looked at what is free, at what serving lacks, and at what others want of the run.
"""

from __future__ import annotations

import time
from typing import Any

from serve.room import has_room, worker_bundles
from train.events import EventLog
from train.finetune.faults import HOPELESS, NoRoom, RayUnreachable, RunFailed, first_line, root_line, root_of
from train.finetune.job import Job
from train.finetune.variables import ray_train, where_unset
from train.finetune.waiting import needs_of, wait_until_free
from train.finetune.wanted import pause_if_wanted
from train.run_folder import RunFolder

Json = dict[str, Any]

#: So long it may take until Ray says that what lost workers had is free.
_LAG_SECONDS = 15.0
_LOOK_SECONDS = 0.5


def trained(job: Job, *, spare_serving: bool) -> Json:
    """Run the workers till they are done; gives what the first one reports at the end.

    Args:
        spare_serving: where there is no room for them beside what serving lacks, do not wait for it here.

    Raises:
        NoRoom: so it is.
        PauseWanted: somebody wants it, and no worker runs.
        RunFailed: the workers failed more often than the recipe lets them.
        RayUnreachable, StorageError
    """
    from ray.train.v2.api.exceptions import TrainingFailedError

    events, lost, starts = EventLog(job.folder), 0, 0
    while True:
        pause_if_wanted(job.folder)
        if spare_serving:
            _require_room_soon(job, _LAG_SECONDS if starts else 0.0, after_loss=lost > 0)
        else:
            wait_until_free(job)
        starts += 1
        try:
            return _fitted(job)
        except TrainingFailedError as failure:
            if _found_no_room(failure):
                if spare_serving:
                    text = f"{needs_of(job)} were taken meanwhile; the run waits for them"
                    raise NoRoom(text, after_loss=lost > 0) from failure
                continue
            # A node that is taken away in order is nobody's failure.
            lost += not _taken_in_order(failure)
            if lost > job.recipe.retries or not _may_pass(failure):
                raise RunFailed(f"the workers failed: {root_line(failure)}") from failure
            events.state("starting", _told(failure))


def _require_room_soon(job: Job, seconds: float, *, after_loss: bool) -> None:
    """See within so many seconds that there is room: what workers had that are lost is free only a little later.

    Raises:
        NoRoom, PauseWanted, RayUnreachable
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return require_room(job)
        except NoRoom as reason:
            if time.monotonic() >= deadline:
                raise NoRoom(str(reason), after_loss=after_loss) from reason
        time.sleep(_LOOK_SECONDS)
        pause_if_wanted(job.folder)


def require_room(job: Job) -> None:
    """See that what the run's workers take is free now, beside what serving lacks to its minimum.

    Raises:
        NoRoom: it is not.
        RayUnreachable
    """
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    from serve.cluster import capacity_now

    resources = job.recipe.resources
    try:
        found = capacity_now()
    except (RayError, RayServeException) as error:
        raise RayUnreachable(f"what is free of the cluster cannot be seen: {first_line(error)}") from error
    if not has_room(found, [], worker_bundles(job.recipe.workers, resources.cpus, resources.gpus)):
        raise NoRoom(f"{needs_of(job)} are not free beside what serving lacks; the run waits for them")


def _fitted(job: Job) -> Json:
    """Start the workers once.

    Raises:
        TrainingFailedError: there was no room for them, or they failed.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from train.worker.loop import train_loop

    class Trainer(TorchTrainer):  # type: ignore[misc]
        """Leaves Ctrl-C alone: Ray's own answer to it ends this program as if all were well, and stays when the
        workers are gone."""

        def _register_sigint_handler(self, controller: object) -> None:
            pass

    resources = job.recipe.resources
    trainer = Trainer(
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
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
        ),
    )
    with where_unset(ray_train(sum(node["Alive"] for node in ray.nodes()))):
        return dict(trainer.fit().return_value or {})


def _ray_storage(folder: RunFolder) -> Json:
    """Where Ray Train keeps its notes: in the run's folder, which every node sees."""
    if folder.local is not None:
        return {"storage_path": f"{folder.address}/ray"}
    from fsspec.core import url_to_fs
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    files, root = url_to_fs(folder.address)
    return {"storage_path": f"{root}/ray", "storage_filesystem": PyFileSystem(FSSpecHandler(files))}


def _found_no_room(failure: Exception) -> bool:
    """Whether Ray Train has waited for resources and did not get them."""
    # Not public; Ray is pinned.
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    return isinstance(getattr(failure, "controller_failure", None), WorkerGroupStartupTimeoutError)


def _taken_in_order(failure: Exception) -> bool:
    """Whether a node was taken away in order, and its workers with it."""
    from ray.train.v2._internal.execution.failure_handling.default import _is_preemption_failure

    return bool(_is_preemption_failure(failure))


def _may_pass(failure: Exception) -> bool:
    """Whether it is worth starting the workers again."""
    from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
    from ray.train.v2.api.exceptions import ControllerError

    if isinstance(failure, ControllerError):
        return isinstance(failure.controller_failure, WorkerGroupStartupFailedError)
    return not isinstance(root_of(failure), HOPELESS)


def _told(failure: Exception) -> str:
    """What is said of workers that are to be started again."""
    workers = getattr(failure, "worker_failures", None)
    if not workers:
        return f"the workers are lost: {first_line(failure)}"
    rank, cause = min(workers.items())
    return f"worker {rank} is lost: {root_line(cause)}"
