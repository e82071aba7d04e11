"""``python -m train.evaluate``: a run's adapter against its base, and the gate; the report is in the run's folder.

Exit codes: 0 the gate passed it, 1 failed, 2 wrong usage, 3 evaluated and the gate did not pass it, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from serve.adapters.errors import RegistryError
from serve.adapters.files import version_in
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
from train.finetune.recipe import Recipe
from train.memory import evaluation_bytes, shape_of
from train.run_folder import ADAPTER, RunFolder, StorageError

_EPILOG = """exit codes: 0 the gate passed it; 1 failed; 2 wrong usage; 3 evaluated, and the gate did not pass it; 130
interrupted"""


_FAILURES = (
    SettingsError,
    DataError,
    StorageError,
    TokenizerError,
    ServedError,
    ModelSourceError,
    RegistryError,
    ValueError,
)


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
    parser.add_argument("--trained", nargs="+", default=[], metavar="FILE", help="conversations that were trained on")
    parser.add_argument("--served", metavar="URL", help="the group that serves it, such as http://127.0.0.1:8000")
    parser.add_argument(
        "--key-variable", metavar="NAME", help="the environment variable with an API key of the group"
    )
    parser.add_argument("--adapter", metavar="NAME", help="its name in the group; by default the run's")
    return parser


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options.config) if options.config else EvaluationSettings()
    named = {name: getattr(options, name) for name in ("held_out", "trained") if getattr(options, name)}
    settings = settings.model_copy(
        update={name: [str(Path(one).absolute()) for one in files] for name, files in named.items()}
    )
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
        SettingsError, StorageError, ModelSourceError, TokenizerError, RegistryError, ServedError: it cannot be done;
            says why.
    """
    # Imports what prepares weights.
    from train.finetune.base import recipe_of

    recipe = recipe_of(folder)
    with folder.on_disk(ADAPTER) as peft:
        settings, subject = of_run(folder, recipe, peft, settings, adapter)
        if served is not None:
            require_served(served, subject)
        if recipe.method == "qlora" and not subject.weights.quantized:
            sys.stderr.write(
                f"evaluated in {subject.weights.name} and not in the 4 bits that it was trained over: there is no GPU"
                " here\n"
            )
        with _lack_told(recipe, settings):
            report = Evaluation(subject, settings, served, _bar).run()
    write_report(folder, report)
    return report


@contextmanager
def _lack_told(recipe: Recipe, settings: EvaluationSettings) -> Iterator[None]:
    """That the GPU has too little memory, and how much it takes.

    Raises:
        SettingsError: so it is.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as failure:
        shape = shape_of(recipe)
        takes = ""
        if shape is not None:
            estimate = evaluation_bytes(recipe, shape, settings.batch_size, settings.max_length)
            takes = f", which takes some {estimate / 2**30:.1f} GiB"
        raise SettingsError(
            f"the GPU has too little memory free for the evaluation{takes}; a smaller batch_size or max_length takes"
            " less"
        ) from failure


def require_served(served: Served, subject: Subject) -> None:
    """Refuse to ask a group that has something else under the adapter's name.

    Raises:
        ServedError: it has another content, or none that is ready; or it cannot be asked.
    """
    name = f"{subject.model}:{subject.adapter}"
    if not served.has(name, subject.version):
        raise ServedError(f"{name} is not ready in the group as version {subject.version}; publish the run first")


def of_run(
    folder: RunFolder, recipe: Recipe, peft: Path, settings: EvaluationSettings, adapter: str | None
) -> tuple[EvaluationSettings, Subject]:
    """The settings with what the run's recipe says of its data, and what is evaluated.

    Args:
        peft: the run's adapter on this machine.

    Raises:
        SettingsError, ModelSourceError, RegistryError: its files are gone, or its base is not here.
    """
    # Imports what prepares weights.
    from train.finetune.base import base_checkpoint
    from train.worker.weights import kind_of

    settings = settings.model_copy(
        update={
            "held_out": settings.held_out or recipe.data.validation,
            "trained": settings.trained or recipe.data.train,
            "system_prompt": settings.system_prompt or recipe.data.system_prompt,
            "variables": settings.variables or recipe.data.variables,
            "max_length": min(settings.max_length, recipe.max_length),
        }
    )
    gone = [one for one in (*settings.held_out, *settings.trained) if folder.holds(one) and not Path(one).exists()]
    if gone:
        raise SettingsError(
            f"{folder.address}: its job has kept its files only until it ended; name held_out and trained, which they"
            " were, as settings or options"
        )
    base = base_checkpoint(recipe.model, progress=sys.stderr.isatty()).path
    subject = Subject(recipe.model.id, adapter or folder.name, base, peft, version_in(peft), kind_of(recipe))
    return anchored(settings, Path.cwd()), subject


def _bar(title: str, total: int) -> AbstractContextManager[Progress]:
    return progress_bar(title, total, " sequences")
