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
from train.evaluate.settings import EvaluationSettings
from train.run_folder import StorageError


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    # Imports llama.cpp.
    from train.merge.quantize import QUANTIZATIONS

    parser = _parser(sorted(QUANTIZATIONS))
    options = parser.parse_args(argv)
    if options.quantization and options.format != "gguf":
        parser.error("--quantization is for --format gguf")
    if options.base_gguf and options.format != "gguf":
        parser.error("--base-gguf is for --format gguf")
    if options.format == "gguf" and not options.base_gguf:
        parser.error(
            "--format gguf needs --base-gguf, the base's own GGUF file, whose tokenizer and settings it keeps"
        )
    if Path(options.out).exists():
        parser.error(f"--out {options.out} is there already")
    try:
        _merge(options)
    except (SettingsError, StorageError, RegistryError, ModelSourceError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was written\n")
        return 130
    sys.stdout.write(f"{options.out}\n")
    return 0


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


def _merge(options: argparse.Namespace) -> None:
    from train.evaluate.command import of_run
    from train.merge.checkpoint import merge_checkpoint
    from train.merge.gguf_file import merge_gguf
    from train.run_folder import ADAPTER, RunFolder

    folder = RunFolder.of(options.run)
    if folder.local is None:
        raise SettingsError(f"{folder.address}: copy the run to a disk first")
    out = Path(options.out)
    if options.format == "gguf":
        merge_gguf(Path(options.base_gguf), folder.local / ADAPTER, out, options.quantization)
    else:
        _, subject = of_run(folder, folder.local, EvaluationSettings(), None)
        merge_checkpoint(subject.base, subject.folder, out)


if __name__ == "__main__":
    sys.exit(main())
