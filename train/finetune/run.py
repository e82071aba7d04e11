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

from serve.settings.errors import SettingsError
from train.checkpoints import Checkpoints
from train.events import EventLog, read_events
from train.finetune.base import BaseCheckpoint, base_checkpoint
from train.finetune.data import manifest_of, prepare_data
from train.finetune.faults import FAULTS, NoRoom, RunFailed, RunTaken, first_line
from train.finetune.job import Job
from train.finetune.plots import draw_curves
from train.finetune.recipe import parse_recipe
from train.finetune.replay import replayed
from train.finetune.result import take_result
from train.finetune.wanted import PauseWanted
from train.finetune.workers import require_room, trained
from train.run_folder import CONFIG, CONTROL, PLOTS, RESULT, RunFolder

Json = dict[str, Any]


def run(job: Job, *, progress: bool, wait: float = 0.0, spare_serving: bool = False) -> Json:
    """Carry out a run, or go on with it; gives what ``result.json`` says, or the state ``paused``.

    Ray must be connected.

    Args:
        progress: write the progress of downloads to standard error.
        wait: seconds for another process that works on the run to end.
        spare_serving: leave free what serving lacks to its minimum, and do not wait for room beside it.

    Raises:
        SettingsError: the folder is that of another recipe.
        RunTaken: and not all of ``wait`` was enough.
        NoRoom: there is none now beside serving; the same run goes on later.
        RunFailed, RayUnreachable
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
            return _carried_out(job, events, begun, progress=progress, spare_serving=spare_serving)
        except PauseWanted:
            return _paused(events, max(Checkpoints(job.folder).steps(), default=0))
        except NoRoom as reason:
            events.state("queued", str(reason))
            raise
        except KeyboardInterrupt:
            events.state("cancelled", "the run was cancelled; the same command goes on with it")
            raise
        except (*FAULTS, RunFailed) as fault:
            events.state("failed", str(fault), {"code": type(fault).__name__, "message": str(fault)})
            raise
        except Exception as fault:
            events.state("failed", "the run failed", {"code": type(fault).__name__, "message": first_line(fault)})
            raise


def _carried_out(job: Job, events: EventLog, begun: float, *, progress: bool, spare_serving: bool) -> Json:
    base = base_checkpoint(job.recipe.model, progress=progress)
    # After a download that may have taken long, and before the base's answers take what the workers will.
    if spare_serving:
        require_room(job)
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
    outcome = trained(job, spare_serving=spare_serving)
    return _finished(job, events, base, manifest["fingerprint"], outcome, time.monotonic() - begun)


def _finished(
    job: Job, events: EventLog, base: BaseCheckpoint, fingerprint: str, outcome: Json, seconds: float
) -> Json:
    """Plots, the adapter and the result; all but plots only where the run is through."""
    _plot(job.folder)
    if outcome["state"] == "paused":
        return _paused(events, outcome["step"])
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


def _paused(events: EventLog, step: int) -> Json:
    events.state("paused", f"paused at step {step}; the same command goes on")
    return {"state": "paused", "steps": step}


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
