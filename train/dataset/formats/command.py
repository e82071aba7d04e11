"""``scripts/prepare_dataset.py``: a curated data set to what a trainer eats.

Exit codes: 0 done, 1 failed and nothing written, 2 wrong usage, 130 interrupted and nothing written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson

from train.dataset.commands import CommandFailed, UsageError, count, progress_bar, run_command, settings_of
from train.dataset.formats.chat import TokenizerError
from train.dataset.formats.inputs import InputError, inputs_of
from train.dataset.formats.prepare import FaultyRows, prepare
from train.dataset.formats.prepared import MANIFEST
from train.dataset.formats.split import SPLITS
from train.dataset.formats.work import PrepareSettings, Tally
from train.dataset.parallel import WorkersFailed, ray_for

_DESCRIPTION = """Rows, or the folder of a curated data set, to what a trainer eats for one model: tokens by the
model's own template, with the loss on answers only, packed. The folder appears when it is whole."""

_EPILOG = "exit codes: 0 done; 1 failed, nothing written; 2 wrong usage; 130 interrupted, nothing written"


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    return run_command(
        _parser(),
        argv,
        _work,
        failures=(InputError, TokenizerError, WorkersFailed),
        interrupted="interrupted; nothing was written",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/prepare_dataset.py", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="files of rows, or curated folders")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a folder that is not there yet")
    parser.add_argument("--model", metavar="NAME", help="the tokenizer: a folder, a GGUF file, or a hub's model")
    parser.add_argument("--form", choices=("tokens", "text", "chat"), default="tokens", help="chat takes no --model")
    parser.add_argument("--pairs", action="store_true", help="better and worse answers, for DPO")
    parser.add_argument("--files", choices=("parquet", "jsonl"), default="parquet")
    parser.add_argument("--no-pack", action="store_true", help="one sequence a row")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="of a sequence, 4096 by default")
    parser.add_argument("--long", choices=("cut", "drop"), help="conversations that do not fit: cut after an answer")
    parser.add_argument(
        "--rewritten",
        choices=("repeat", "skip"),
        help="answers that the template writes differently once others follow: a sequence of their own, or none",
    )
    parser.add_argument("--system-prompt", metavar="TEXT", help="for conversations without one")
    parser.add_argument("--template-variables", type=_object, metavar="JSON", dest="variables")
    parser.add_argument(
        "--split", type=weights, metavar="NAME=WEIGHT,...", help="default: train=0.95,validation=0.05"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--workers", type=count, default=0, metavar="N", help="Ray workers; 0 works in this process")
    parser.add_argument("--json", action="store_true", help="the manifest on standard output")
    return parser


def _object(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is no JSON object such as {{"enable_thinking": false}}')
    return found


def weights(text: str) -> dict[str, float]:
    """What ``--split`` names: weights by split, 0 for those that are not named."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        named = {name.strip(): float(weight) for name, weight in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like train=0.9,validation=0.1") from None
    return {**dict.fromkeys(SPLITS, 0.0), **named}


def _settings(options: argparse.Namespace) -> PrepareSettings:
    """The settings that the options make.

    Raises:
        UsageError: they do not fit.
    """
    names = ("max_tokens", "long", "rewritten", "system_prompt", "variables")
    encode = {name: value for name in names if (value := getattr(options, name)) is not None}
    if (options.model is None) != (options.form == "chat"):
        what = "needs --model" if options.model is None else "takes no --model"
        raise UsageError(f"--form {options.form} {what}")
    if options.form == "chat" and encode:
        raise UsageError(f"--form chat takes no --{min(encode).replace('_', '-')}")
    raw = {
        "form": options.form,
        "pairs": options.pairs,
        "files": options.files,
        "pack": not options.no_pack,
        "encode": encode,
        "split": {**(options.split or {}), "seed": options.seed},
    }
    return settings_of(PrepareSettings, raw)


def _work(options: argparse.Namespace) -> int:
    settings = _settings(options)
    try:
        return _run(options, settings)
    except FaultyRows as faulty:
        for path, found in faulty.tally.faults.items():
            sys.stderr.writelines(f"error: {path}: {fault}\n" for fault in found.listed)
        raise CommandFailed(f"{faulty}; nothing was written") from None


def _run(options: argparse.Namespace, settings: PrepareSettings) -> int:
    total = sum(one.path.stat().st_size for one in inputs_of(options.inputs))
    with ray_for(options.workers), progress_bar("prepare", total) as progress:
        tally = prepare(
            options.inputs,
            options.out,
            settings,
            model=options.model,
            workers=options.workers,
            progress=progress,
        )
    sys.stderr.write(f"{_report(tally)}\n")
    if options.json:
        sys.stdout.buffer.write((options.out / MANIFEST).read_bytes())
    return 0


def _report(tally: Tally) -> str:
    kept = sum(split.rows for split in tally.splits.values())
    lines = [f"read {tally.read}, kept {kept}"]
    for name, split in tally.splits.items():
        tokens = split.tokens
        share = f"; {tokens.total} tokens, {100 * split.learned / tokens.total:.1f} % learned" if tokens.count else ""
        lines.append(f"{name}: {split.rows} conversations, {split.answers} answers{share}")
    lines += [f"left out, {reason}: {count}" for reason, count in sorted(tally.dropped.items())]
    return "\n".join(lines)
