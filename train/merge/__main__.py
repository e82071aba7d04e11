"""``python -m train.merge``: a run's adapter merged into its base. What is served stays as it is.

Exit codes: 0 done, 1 failed and nothing written, 2 wrong usage, 130 interrupted and nothing written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from serve.adapters.errors import RegistryError
from serve.models import ModelSourceError
from serve.settings.errors import SettingsError
from train.dataset.commands import UsageError, run_command
from train.finetune.base import base_checkpoint, recipe_of
from train.merge.checkpoint import merge_checkpoint
from train.run_folder import ADAPTER, RunFolder, StorageError


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    # Imports llama.cpp.
    from train.merge.quantize import QUANTIZATIONS

    return run_command(
        _parser(sorted(QUANTIZATIONS)),
        argv,
        _run,
        failures=(SettingsError, StorageError, RegistryError, ModelSourceError, ValueError),
        interrupted="interrupted; nothing was written",
    )


def _parser(quantizations: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.merge", description="A run's adapter and its base as one model."
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a training run")
    parser.add_argument("--format", choices=("safetensors", "gguf"), required=True)
    parser.add_argument("--out", required=True, metavar="PATH", help="the folder of the checkpoint, or the GGUF file")
    parser.add_argument("--base-gguf", metavar="FILE", help="the base's own GGUF file")
    parser.add_argument(
        "--quantization", choices=quantizations, metavar="TYPE", help=f"of the GGUF file: {', '.join(quantizations)}"
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    # Imports llama.cpp.
    from train.merge.gguf_file import merge_gguf

    gguf, out = options.format == "gguf", Path(options.out)
    for name in ("quantization", "base_gguf"):
        if getattr(options, name) and not gguf:
            raise UsageError(f"--{name.replace('_', '-')} is for --format gguf")
    if gguf and not options.base_gguf:
        raise UsageError("--format gguf needs --base-gguf, the base's file, whose tokenizer and settings it keeps")
    if out.exists():
        raise UsageError(f"--out {out} is there already")
    folder = RunFolder.of(options.run)
    recipe = recipe_of(folder)
    with folder.on_disk(ADAPTER) as peft:
        if gguf:
            merge_gguf(Path(options.base_gguf), peft, out, options.quantization)
        else:
            merge_checkpoint(base_checkpoint(recipe.model, progress=sys.stderr.isatty()).path, peft, out)
    sys.stdout.write(f"{out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
