"""What goes on beside the steps of a run: events, evaluation, checkpoints, the wish to pause, the early stop.

It is a callback of transformers' Trainer. Every worker has one, and all of them decide alike: what only one can know
goes from the first worker to all.
"""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from train.checkpoints import Checkpoints, Engine, Manifest, path_of
from train.events import EventLog
from train.finetune.job import Job
from train.finetune.wanted import wants_pause
from train.worker import group
from train.worker.trackers import Trackers

#: So many lines at most has the curve of a run.
_MOST_POINTS = 1000
#: How often the wish to pause is looked for: object stores take their time.
_LOOK_SECONDS = 1.0
#: What a checkpoint of transformers has and nobody reads again.
_LEFT_OUT = ("training_args.bin", "README.md")
_LIBRARIES = ("torch", "transformers", "trl", "peft")
#: What Unsloth computes by, noted where it trained.
_UNSLOTH = ("unsloth", "unsloth_zoo")


class Watch(TrainerCallback):  # type: ignore[misc]
    """Watches one worker's part of a run.

    Args:
        engine: what trains; checkpoints say so.

    Attributes:
        paused: whether the run ends because somebody wants it to pause.
        stopped_early: whether it ends because nothing is gained any more.
    """

    def __init__(self, job: Job, trackers: Trackers, engine: Engine) -> None:
        self.paused = False
        self.stopped_early = False
        self._job = job
        self._events = EventLog(job.folder)
        self._checkpoints = Checkpoints(job.folder)
        self._trackers = trackers
        self._engine = engine
        self._first = group.rank() == 0
        self._looked = 0.0
        self._noted = (time.monotonic(), 0)
        self._point: dict[str, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Say that it runs."""
        self._noted = (time.monotonic(), int(state.num_input_tokens_seen))
        if self._first:
            begun = f"from step {state.global_step} of" if state.global_step else "over"
            self._events.state("running", f"training {begun} {state.max_steps} steps")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> TrainerControl:
        """Decide what is done after this step."""
        step, last = state.global_step, state.global_step >= state.max_steps
        self.paused = not last and group.from_first(self._wants_pause())
        due = step % self._job.recipe.checkpoint.every == 0 or last
        control.should_log = due or self.paused or step % max(1, state.max_steps // _MOST_POINTS) == 0
        control.should_evaluate = due and bool(self._job.recipe.data.validation)
        control.should_save = due or self.paused
        control.should_training_stop = control.should_training_stop or self.paused
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> TrainerControl:
        """Stop where nothing is gained any more."""
        early = self._job.recipe.schedule.early_stop
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        if early is not None and gains_nothing(losses, early.patience, early.min_delta):
            self.stopped_early = control.should_training_stop = True
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Note a point of the curve."""
        logs = logs or {}
        if not self._first or not {"loss", "eval_loss"} & logs.keys():
            return
        if "loss" in logs:
            now, tokens = time.monotonic(), int(state.num_input_tokens_seen)
            before, had = self._noted
            self._noted = (now, tokens)
            self._point = {
                "step": state.global_step,
                "total_steps": state.max_steps,
                "epoch": round(state.epoch or 0.0, 4),
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
                "tokens": tokens,
                "tokens_per_second": round((tokens - had) / max(now - before, 1e-9), 1),
            }
        else:
            # The time of an evaluation is not one of training.
            self._noted = (time.monotonic(), self._noted[1])
        point = {**self._point, **({"eval_loss": logs["eval_loss"]} if "eval_loss" in logs else {})}
        told = ", ".join(f"{name} {point[name]:.4f}" for name in ("loss", "eval_loss") if name in point)
        self._events.write("metrics", f"step {point['step']} of {point['total_steps']}: {told}", point)
        self._trackers.note(point)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Take over the checkpoint that the Trainer has just written on this node."""
        begun = time.monotonic()
        step = state.global_step
        written = Path(str(args.output_dir)) / f"checkpoint-{step}"
        if self._first:
            self._checkpoints.begin(step)
        group.from_all(None)
        names = [one.relative_to(written).as_posix() for one in sorted(written.rglob("*")) if one.is_file()]
        added = group.from_all(
            self._checkpoints.add(step, written, [name for name in names if name not in _LEFT_OUT])
        )
        shutil.rmtree(written)
        if self._first:
            files = {name: file for those in added for name, file in those.items()}
            manifest = _manifest(state, self._engine, files)
            self._checkpoints.finish(manifest)
            self._checkpoints.prune(self._job.recipe.checkpoint.keep)
            self._trackers.keep()
            data = {"step": step, "path": path_of(step), "loss": manifest.loss, "eval_loss": manifest.eval_loss}
            self._events.write("checkpoint", f"checkpoint of step {step}", data)
        # The time of writing is not one of training either.
        self._noted = (self._noted[0] + time.monotonic() - begun, self._noted[1])

    def _wants_pause(self) -> bool:
        now = time.monotonic()
        if not self._first or now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now
        return wants_pause(self._job.folder)


def gains_nothing(losses: list[float], patience: int, min_delta: float) -> bool:
    """Whether the last ``patience`` losses are all no better, by more than ``min_delta``, than the best before."""
    if len(losses) <= patience:
        return False
    return min(losses[-patience:]) > min(losses[:-patience]) - max(min_delta, 1e-12)


def _manifest(state: TrainerState, engine: Engine, files: dict[str, Any]) -> Manifest:
    def noted(name: str) -> float | None:
        history = state.log_history
        return next((entry[name] for entry in history if name in entry and entry["step"] == state.global_step), None)

    return Manifest(
        step=state.global_step,
        total_steps=state.max_steps,
        epoch=float(state.epoch or 0.0),
        tokens=int(state.num_input_tokens_seen),
        workers=group.size(),
        loss=noted("loss"),
        eval_loss=noted("eval_loss"),
        created=datetime.now(UTC),
        engine=engine,
        versions={name: version(name) for name in (*_LIBRARIES, *(_UNSLOTH if engine == "unsloth" else ()))},
        files=files,
    )
