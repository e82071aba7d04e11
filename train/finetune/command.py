"""``python -m train.finetune``: tune a model by a recipe, on the Ray cluster that is there, or on this machine alone.

Exit codes: 0 done, or paused because somebody wanted it; 1 failed; 2 wrong usage; 69 no room beside serving; 75
hindered by what may pass; 130 interrupted. After 1, 69, 75 and 130 the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType

import orjson

from serve.settings.environment import Environment
from train.finetune.console import told
from train.finetune.faults import FAULTS, NoRoom, RayUnreachable, RunFailed, RunTaken, first_line
from train.finetune.job import Job
from train.finetune.recipe import Recipe, load_recipe
from train.finetune.run import run
from train.finetune.variables import OWN_NODE, where_unset
from train.run_folder import NO_ROOM, TRY_AGAIN, RunFolder, StorageUnreachable

_EPILOG = """exit codes: 0 done, or paused because somebody wanted it; 1 failed; 2 wrong usage; 69 no room beside
serving, with --spare-serving; 75 hindered by what may pass: Ray, the storage, another process on the run, no
room for workers in place of lost ones; 130
interrupted. After 1, 69, 75 and 130 the same command goes on from the last checkpoint."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    options = _parser().parse_args(argv)
    try:
        recipe = load_recipe(options.config, options.set)
        if options.check:
            sys.stdout.write(recipe.to_yaml())
            return 0
        folder = RunFolder(options.storage or Environment.read().runs, options.run or _fresh_name(recipe))
        return _run(Job(recipe, folder), options)
    except NoRoom as reason:
        sys.stderr.write(f"{reason}\n")
        return TRY_AGAIN if reason.after_loss else NO_ROOM
    except (*FAULTS, RunFailed, RunTaken, RayUnreachable) as error:
        sys.stderr.write(f"error: {error}\n")
        return TRY_AGAIN if isinstance(error, (RunTaken, RayUnreachable, StorageUnreachable)) else 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from the last checkpoint\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.finetune",
        description="Tune a model by a recipe.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the recipe, as in configs/train")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value for a setting, such as schedule.epochs=2; may come again",
    )
    parser.add_argument("--run", metavar="NAME", help="the same name goes on with a run (default: a new one)")
    parser.add_argument("--storage", metavar="PLACE", help="folder or address of all runs (default: GROUPQWEN_RUNS)")
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="so long for another process on the run to end (default: 0)",
    )
    parser.add_argument(
        "--spare-serving",
        action="store_true",
        help="leave free what serving lacks to its minimum; where there is no room beside it, end with 69",
    )
    parser.add_argument("--check", action="store_true", help="show the whole recipe, checked, and do nothing else")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    return parser


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 on")
    return found


def _run(job: Job, options: argparse.Namespace) -> int:
    sys.stderr.write(f"the run's folder: {job.folder.address}\n")
    job.folder.make()
    # Ray puts a handler of its own in place of ours.
    with _ray(), _terminated_as_interrupted(), told(job.folder):
        result = run(job, progress=True, wait=options.wait, spare_serving=options.spare_serving)
    if options.json:
        sys.stdout.write(orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
    return 0


def _fresh_name(recipe: Recipe) -> str:
    return f"{recipe.model.id[:40]}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


@contextmanager
def _ray() -> Iterator[None]:
    """Ray: the cluster that is there, or one for this run."""
    import ray

    if ray.is_initialized():
        yield
        return
    # Which cluster: what RAY_ADDRESS says, or the one that runs on this machine; where there is none, one is started.
    try:
        with where_unset(OWN_NODE):
            ray.init(log_to_driver=False, include_dashboard=False)
    except Exception as failure:  # It raises what it likes.
        raise RayUnreachable(f"Ray can be neither reached nor started: {first_line(failure)}") from failure
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A job that is stopped gets SIGTERM: it ends as one that was interrupted, and says so in its events."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
