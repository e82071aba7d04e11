"""``scripts/augment_dataset.py``: paraphrases and translations of rows, by a model of this group or another server.

Exit codes: 0 done, 1 failed or stopped (what is done is kept for the next run), 2 wrong usage, 3 written, but some
requests failed or the budget ended, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from serve.settings.errors import SettingsError
from serve.settings.upstream import UpstreamEngine
from train.dataset.augment.journal import JournalError
from train.dataset.augment.run import Augmentation, AugmentStopped, augment
from train.dataset.augment.settings import AugmentSettings
from train.dataset.commands import progress_bar, run_command, settings_of
from train.dataset.formats.command import weights
from train.dataset.formats.inputs import InputError, inputs_of

_DESCRIPTION = """More rows out of those that there are, by a model of this group or of any OpenAI-compatible server:
questions in other words, or conversations in other languages. Only what is trained on is augmented."""

_EPILOG = """exit codes: 0 done; 1 failed or stopped, what is done is kept for the same command to go on with;
2 wrong usage; 3 written, but some requests failed or the budget ended; 130 interrupted"""

#: This group itself, and patience: a busy model says when to come back.
_BASE_URL = "http://127.0.0.1:8000/v1"
_RETRIES = {"count": 6, "backoff": 1.0, "longest": 60.0}


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    return run_command(
        _parser(),
        argv,
        _run,
        failures=(AugmentStopped, InputError, JournalError, SettingsError),
        interrupted="interrupted; what is done is kept, and the same command goes on",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/augment_dataset.py", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="files of rows, or curated folders")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the file of the rows that are made")
    parser.add_argument("--kind", required=True, choices=("paraphrase", "translation"))
    parser.add_argument(
        "--language",
        action="append",
        type=_language,
        default=[],
        metavar="CODE=NAME",
        help="de=German; may come again",
    )
    parser.add_argument("--copies", type=int, default=1, metavar="N", help="paraphrases of each row")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--budget-tokens", type=int, metavar="N", help="begin nothing more after so many tokens")
    parser.add_argument("--budget-rows", type=int, metavar="N", help="make no more rows than this")
    parser.add_argument("--split", type=weights, metavar="NAME=WEIGHT,...", help="as for scripts/prepare_dataset.py")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--json", action="store_true", help="the report as JSON on standard output")
    server = parser.add_argument_group("the model")
    server.add_argument("--model", required=True, help="its name there")
    server.add_argument("--base-url", default=_BASE_URL, metavar="URL", help=f"by default {_BASE_URL}")
    server.add_argument("--key-env", metavar="NAME", help="the environment variable with the API key")
    server.add_argument("--key-file", type=Path, metavar="FILE", help="a file with the API key")
    server.add_argument("--concurrency", type=int, default=8, metavar="N", help="requests at once")
    return parser


def _language(text: str) -> tuple[str, str]:
    code, equals, name = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not like de=German")
    return code.strip(), name.strip()


def _settings(options: argparse.Namespace) -> AugmentSettings:
    raw = {
        "kind": options.kind,
        "languages": dict(options.language),
        "copies": options.copies,
        "temperature": options.temperature,
        "budget_tokens": options.budget_tokens,
        "budget_rows": options.budget_rows,
        "split": {**(options.split or {}), "seed": options.seed},
    }
    return settings_of(AugmentSettings, raw)


def _server(options: argparse.Namespace) -> UpstreamEngine:
    raw = {
        "base_url": options.base_url,
        "model": options.model,
        "key_env": options.key_env,
        "key_file": None if options.key_file is None else str(options.key_file.absolute()),
        "max_connections": options.concurrency,
        "retries": _RETRIES,
    }
    return settings_of(UpstreamEngine, raw)


def _run(options: argparse.Namespace) -> int:
    settings, server = _settings(options), _server(options)
    total = sum(one.path.stat().st_size for one in inputs_of(options.inputs) if one.split in (None, "train"))
    with progress_bar("augment", total) as progress:
        done = augment(options.inputs, options.out, settings, server, progress=progress)
    sys.stderr.write(f"{_report(done)}\n")
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(done, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return 3 if done.failed or done.left else 0


def _report(done: Augmentation) -> str:
    lines = [f"read {done.read}, written {done.written}, {done.tokens} tokens used"]
    also = {
        "skipped": done.skipped,
        "repeated": done.repeated,
        "failed": done.failed,
        "left by the budget": done.left,
    }
    lines += [f"{name}: {count}" for name, count in also.items() if count]
    lines += [f"refused, {reason}: {count}" for reason, count in sorted(done.refused.items())]
    return "\n".join(lines)
