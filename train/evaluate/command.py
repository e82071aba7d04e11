"""``python -m train.evaluate``: a run's adapter against its base, and the gate; the report is in the run's folder.

Exit codes: 0 the gate passed it, 1 failed, 2 wrong usage, 3 evaluated and the gate did not pass it, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from serve.models import ModelSourceError
from serve.settings.errors import SettingsError
from train.dataset.commands import progress_bar, run_command
from train.dataset.formats import TokenizerError
from train.evaluate.report import FOLDER, PAGE, Report, lines, write_report
from train.evaluate.run import Evaluation, Subject
from train.evaluate.served import Served, ServedError
from train.evaluate.settings import EvaluationSettings, anchored, load_settings
from train.evaluate.stack import Progress
from train.finetune.data import DataError
from train.run_folder import ADAPTER, CONFIG, RunFolder, StorageError

_EPILOG = """exit codes: 0 the gate passed it; 1 failed; 2 wrong usage; 3 evaluated, and the gate did not pass it; 130
interrupted"""


_FAILURES = (SettingsError, DataError, StorageError, TokenizerError, ServedError, ModelSourceError, ValueError)


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    return run_command(_parser(), argv, _run, failures=_FAILURES, interrupted="interrupted; nothing was written")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description="What a run's adapter has learned and forgotten, and whether it serves as it trained.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a training run")
    parser.add_argument("--config", metavar="FILE", help="settings, as configs/train/evaluation.yaml has them")
    parser.add_argument("--held-out", nargs="+", default=[], metavar="FILE", help="conversations not trained on")
    parser.add_argument("--served", metavar="URL", help="the group that serves it, such as http://127.0.0.1:8000")
    parser.add_argument(
        "--key-variable", metavar="NAME", help="the environment variable with an API key of the group"
    )
    parser.add_argument("--adapter", metavar="NAME", help="its name in the group; by default the run's")
    return parser


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options.config) if options.config else EvaluationSettings()
    if options.held_out:
        settings = settings.model_copy(update={"held_out": [str(Path(one).absolute()) for one in options.held_out]})
    served = Served(options.served, options.key_variable) if options.served else None
    report = evaluate_run(RunFolder.of(options.run), settings, served, options.adapter)
    sys.stdout.write("".join(f"{line}\n" for line in lines(report.checks)))
    sys.stdout.write(f"{options.run}/{FOLDER}/{PAGE}\n")
    return 0 if report.passed else 3


def evaluate_run(
    folder: RunFolder, settings: EvaluationSettings, served: Served | None, adapter: str | None = None
) -> Report:
    """Evaluate the adapter of a run, and write the report into its folder.

    Args:
        served: the group that serves it.
        adapter: its name there; by default the run's.

    Raises:
        SettingsError, StorageError, ModelSourceError, TokenizerError, ServedError: it cannot be done; says why.
    """
    local = folder.local
    if local is None:
        raise SettingsError(f"{folder.address}: copy the run to a disk first, to evaluate it there")
    settings, subject = of_run(folder, local, settings, adapter)
    report = Evaluation(subject, settings, served, _bar).run()
    write_report(local / FOLDER, report)
    return report


def of_run(
    folder: RunFolder, local: Path, settings: EvaluationSettings, adapter: str | None
) -> tuple[EvaluationSettings, Subject]:
    """The settings with what the run's recipe says of its data, and what is evaluated.

    Raises:
        SettingsError, StorageError, ModelSourceError: the run has no adapter, or its base is not here.
    """
    # Imports what prepares weights.
    from train.finetune.base import base_checkpoint
    from train.finetune.recipe import parse_recipe

    content = folder.read(CONFIG)
    if content is None or not (local / ADAPTER).is_dir():
        raise SettingsError(f"{folder.address}: has no {CONFIG} and {ADAPTER}/; is it the folder of a finished run?")
    recipe = parse_recipe(content.decode(), f"{folder.address}/{CONFIG}")
    settings = settings.model_copy(
        update={
            "held_out": settings.held_out or recipe.data.validation,
            "trained": settings.trained or recipe.data.train,
            "system_prompt": settings.system_prompt or recipe.data.system_prompt,
            "variables": settings.variables or recipe.data.variables,
            "max_length": min(settings.max_length, recipe.max_length),
        }
    )
    base = base_checkpoint(recipe.model, progress=sys.stderr.isatty()).path
    return anchored(settings, Path.cwd()), Subject(recipe.model.id, adapter or folder.name, base, local / ADAPTER)


def _bar(title: str, total: int) -> AbstractContextManager[Progress]:
    return progress_bar(title, total, " sequences")
