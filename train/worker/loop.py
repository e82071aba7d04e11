"""What each worker of Ray Train runs: load, go on from the last checkpoint, train, say how it ended.

Ray Train sends this function to workers by name, so it stands in a module that they can import.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.checkpoints import CheckpointError, Checkpoints, Engine
from train.events import EventLog
from train.finetune.base import base_checkpoint
from train.finetune.data import data_on_this_node
from train.finetune.job import Job
from train.worker import group
from train.worker.processors import use_processors
from train.worker.tunable import load_tunable

Json = dict[str, Any]


def train_loop(config: Json) -> Json:
    """One worker's part of the run that ``config`` says (``train.finetune.job.Job.to_config``).

    Returns:
        How the run ended: ``state`` (``succeeded`` or ``paused``), ``step``, ``epoch``, ``tokens``, ``train_loss``,
        ``eval_loss``, ``stopped_early``, ``peak_memory_bytes``.
    """
    import ray

    job = Job.from_config(config)
    use_processors(job.recipe.resources)
    events = EventLog(job.folder)

    def tell(line: str) -> None:
        if group.rank() == 0:
            events.write("message", line, level="warning")

    base = base_checkpoint(job.recipe.model, progress=False)
    # Unsloth changes transformers and trl, so it comes before everything that uses them.
    tunable = load_tunable(job.recipe, base.path, tell)
    nodes = group.from_all(ray.get_runtime_context().get_node_id())
    if group.rank() == 0:
        said = f"loaded by {tunable.engine}; {tunable.trained:,} numbers are trained"
        facts = {"engine": tunable.engine, "trained_parameters": tunable.trained, "workers": len(nodes)}
        # The gateway counts by the nodes what memory is left for other jobs.
        events.write("message", said, {**facts, "nodes": nodes})

    from train.worker.trackers import Trackers
    from train.worker.trainers import make_trainer
    from train.worker.watch import Watch

    with tempfile.TemporaryDirectory(prefix="groupqwen-train-") as scratch, data_on_this_node(job.folder) as data:
        with (
            _resumed(job, tunable.engine, tell) as (step, checkpoint),
            Trackers(job, begun=step, wanted=group.rank() == 0) as trackers,
        ):
            watch = Watch(job, trackers, tunable.engine)
            trainer = make_trainer(job.recipe, tunable, data, Path(scratch), watch)
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        return _outcome(trainer.state, watch)


def _outcome(state: Any, watch: Any) -> Json:
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    judged = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
    return {
        "state": "paused" if watch.paused else "succeeded",
        "step": state.global_step,
        "epoch": float(state.epoch or 0.0),
        "tokens": int(state.num_input_tokens_seen),
        "train_loss": losses[-1] if losses else None,
        "eval_loss": judged[-1] if judged else None,
        "stopped_early": watch.stopped_early,
        "peak_memory_bytes": max(group.from_all(_peak_memory())),
    }


@contextmanager
def _resumed(job: Job, engine: Engine, tell: Callable[[str], None]) -> Iterator[tuple[int, Path | None]]:
    """The last checkpoint that is whole, its step and its folder on this node; 0 and none where the run begins."""
    step = group.from_first(last_whole(job, engine, tell) if group.rank() == 0 else None)
    if step is None:
        yield 0, None
        return
    with Checkpoints(job.folder).opened(step) as folder:
        yield step, folder


def last_whole(job: Job, engine: Engine, tell: Callable[[str], None]) -> int | None:
    """The step of the checkpoint that a run goes on from; none where it begins.

    Args:
        engine: what trains now.
        tell: is told of checkpoints that are not whole, and where another engine made the one that is taken.
    """
    checkpoints = Checkpoints(job.folder)
    for step in reversed(checkpoints.steps()):
        try:
            manifest = checkpoints.verify(step)
        except CheckpointError as fault:
            tell(f"the checkpoint of step {step} is passed over: {fault}")
            continue
        if manifest.engine not in (None, engine):
            tell(
                f"the run goes on by {engine} from a checkpoint that {manifest.engine} has made: the weights are the"
                " same, the losses will not be those that it would have had"
            )
        return step
    return None


def _peak_memory() -> int:
    """Bytes: of the GPU where there is one, else of the process."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
