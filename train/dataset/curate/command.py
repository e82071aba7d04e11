"""``scripts/curate_dataset.py``: chats to a curated, split, documented set.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done, but faults of the input were skipped, 4 no row was left, 130
interrupted. After 1, 4 and 130 the set of an earlier run is as it was, and the next run goes on where this one was.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from filelock import FileLock, Timeout
from tqdm import tqdm

from serve.settings.errors import SettingsError
from train.dataset.commands import CommandFailed, UsageError, count, progress_bar, run_command
from train.dataset.curate.duplicates import LeakFound
from train.dataset.curate.output import LOCK, WORK, foreign
from train.dataset.curate.pipeline import InputFault, Job, NothingLeft, curate
from train.dataset.curate.recipe import load_recipe
from train.dataset.curate.registry import STEPS
from train.dataset.curate.report import Report
from train.dataset.curate.review.terminal import review_in_terminal
from train.dataset.curate.stages import How
from train.dataset.exports import files_of
from train.dataset.parallel import WorkersFailed, ray_for
from train.dataset.personal import NamesUnavailable

#: The exit code where the steps leave no row.
NOTHING_LEFT = 4

DEFAULT_RECIPE = str(Path(__file__).resolve().parents[3] / "configs" / "curate" / "default.yaml")

_DESCRIPTION = """Chats to a curated, split, documented set.

Reads rows (what scripts/export_chat_history.py writes) and everything that it reads. A recipe says what is done."""

_EPILOG = """exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but faults of the input were skipped; 4 no row
was left; 130 interrupted. After 1, 4 and 130 the set of an earlier run is as it was, and the same command goes on
where this one was."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    return run_command(
        _parser(),
        argv,
        _work,
        failures=(SettingsError, LeakFound, NamesUnavailable, WorkersFailed),
        interrupted="interrupted; the same command goes on from here",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/curate_dataset.py",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="files of rows, chat exports, or folders of them")
    parser.add_argument(
        "--recipe", default=DEFAULT_RECIPE, metavar="FILE", help="by default configs/curate/default.yaml"
    )
    parser.add_argument("--out", metavar="DIR", help="the folder of the set")
    parser.add_argument(
        "--workers", type=count, default=0, metavar="N", help="Ray workers; 0, the default, needs no Ray"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first fault of the input")
    parser.add_argument("--review", action="store_true", help="look at the rows one by one before the set is written")
    parser.add_argument("--keep-work", action="store_true", help="keep what is needed to go on with a changed recipe")
    parser.add_argument("--json", action="store_true", help="the report as JSON on standard output")
    parser.add_argument("--check", nargs="+", metavar="RECIPE", help="check recipes and do nothing else")
    parser.add_argument("--list-steps", action="store_true", help="list the steps of recipes and do nothing else")
    return parser


def _work(options: argparse.Namespace) -> int:
    if options.list_steps:
        sys.stdout.write(_steps())
        return 0
    if options.check is not None:
        return max(map(_check, options.check))
    _require(options)
    try:
        return _run(options)
    except InputFault as fault:
        raise CommandFailed(f"{fault}\nnothing was written, because of --strict") from None
    except NothingLeft as nothing:
        sys.stderr.write(f"error: {nothing}\n")
        return NOTHING_LEFT


def _steps() -> str:
    width = max(map(len, STEPS))
    return "".join(f"{name.ljust(width)}  {(kind.__doc__ or '').splitlines()[0]}\n" for name, kind in STEPS.items())


def _check(path: str) -> int:
    """Check a recipe and say what was found; 0 when it is right."""
    try:
        loaded = load_recipe(path)
    except (SettingsError, NamesUnavailable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{path}: right; {', '.join(step.title for step in loaded.recipe.steps)}\n")
    return 0


def _require(options: argparse.Namespace) -> None:
    if not options.inputs:
        raise UsageError("name an INPUT")
    if options.out is None:
        raise UsageError("name the folder of the set with --out")
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {options.out} is a file")
    if others := foreign(out):
        raise UsageError(f"--out {options.out} has other files in it ({others[0]}); name a folder of its own")
    for name in options.inputs:
        if not Path(name).exists():
            raise UsageError(f"there is no file or folder {name}")
        # Inputs are read twice.
        if not (Path(name).is_file() or Path(name).is_dir()):
            raise UsageError(
                f"{name} is neither a file nor a folder, but a pipe or a device; save it as a file first"
            )
        if Path(name).is_file() and out.resolve() in Path(name).resolve().parents:
            raise UsageError(f"{name} lies in --out, and would be lost")
    if options.review and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("--review needs a terminal")


def _run(options: argparse.Namespace) -> int:
    loaded = load_recipe(options.recipe)
    out = Path(options.out).resolve()
    inputs = [name for name in files_of(options.inputs) if out not in Path(name).resolve().parents]
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out), ray_for(options.workers):
        job = Job(
            inputs,
            loaded,
            out,
            How(loaded.context, options.workers, progress_bar),
            strict=options.strict,
            reviewer=review_in_terminal if options.review else None,
            tell=lambda line: tqdm.write(f"skipped: {line}", file=sys.stderr),
        )
        report = curate(job)
        if not options.keep_work:
            shutil.rmtree(out / WORK)
    return _tell(report, as_json=options.json)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """No other run in the same folder meanwhile."""
    try:
        with FileLock(out / LOCK, timeout=0):
            yield
            (out / LOCK).unlink()
    except Timeout:
        raise UsageError(f"another run works in {out}") from None


def _tell(report: Report, *, as_json: bool) -> int:
    sys.stderr.write(f"{report.text()}\n")
    if as_json:
        sys.stdout.write(orjson.dumps(report.body(), option=orjson.OPT_INDENT_2).decode() + "\n")
    return 3 if report.faults else 0
