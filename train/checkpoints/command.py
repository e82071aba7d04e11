"""``python -m train.checkpoints``: list, inspect, verify, prune and restore the checkpoints of a run.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import orjson

from train.checkpoints.manifest import Manifest
from train.checkpoints.store import CheckpointError, Checkpoints
from train.run_folder import RunFolder, StorageError

_MIB = 1 << 20


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    options = _parser().parse_args(argv)
    command: Callable[[Checkpoints, argparse.Namespace], int] = options.command
    try:
        return command(Checkpoints(RunFolder.of(options.run)), options)
    except (CheckpointError, StorageError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.checkpoints", description="The checkpoints of a training run."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, what: str, command: Callable[[Checkpoints, argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=f"{what[:1].upper()}{what[1:]}.")
        sub.add_argument("run", metavar="RUN", help="path or address of the run's folder")
        sub.set_defaults(command=command)
        return sub

    add("list", "list the checkpoints", _list).add_argument("--json", action="store_true", help="as JSON")
    inspect = add("inspect", "show what a checkpoint holds", _inspect)
    inspect.add_argument("step", metavar="STEP", type=_count)
    verify = add("verify", "read checkpoints whole and hold them to their hashes", _verify)
    verify.add_argument("steps", metavar="STEP", type=_count, nargs="*", help="by default, all")
    prune = add("prune", "remove all but the last checkpoints and the best one", _prune)
    prune.add_argument("--keep", type=_count, required=True, metavar="N", help="how many of the last ones stay")
    restore = add("restore", "copy a checkpoint to a folder and verify the copy", _restore)
    restore.add_argument("step", metavar="STEP", type=_count)
    restore.add_argument("--out", type=Path, required=True, metavar="DIR", help="is not there yet, or is empty")
    return parser


def _list(checkpoints: Checkpoints, options: argparse.Namespace) -> int:
    found = checkpoints.list()
    best = checkpoints.best()
    if options.json:
        _write(orjson.dumps([_body(one) for one in found], option=orjson.OPT_INDENT_2).decode())
        return 0
    for one in found:
        marks = " best" if best is not None and one.step == best.step else ""
        told = f"loss {_loss(one.loss)}, validation {_loss(one.eval_loss)}, {one.size / _MIB:.1f} MiB"
        _write(f"{one.step} of {one.total_steps}: {told}, {one.created:%Y-%m-%d %H:%M}{marks}")
    broken = sorted(set(checkpoints.steps()) - {one.step for one in found})
    for step in broken:
        _write(f"{step}: its manifest cannot be understood")
    return 1 if broken else 0


def _inspect(checkpoints: Checkpoints, options: argparse.Namespace) -> int:
    _write(checkpoints.get(options.step).model_dump_json(indent=2))
    return 0


def _verify(checkpoints: Checkpoints, options: argparse.Namespace) -> int:
    failed = False
    for step in options.steps or checkpoints.steps():
        try:
            manifest = checkpoints.verify(step)
        except CheckpointError as fault:
            failed = True
            sys.stderr.write(f"error: {fault}\n")
            continue
        _write(f"{step}: {len(manifest.files)} files are as they were written")
    return int(failed)


def _prune(checkpoints: Checkpoints, options: argparse.Namespace) -> int:
    gone = checkpoints.prune(options.keep)
    _write(f"removed: {', '.join(map(str, gone)) or 'none'}")
    return 0


def _restore(checkpoints: Checkpoints, options: argparse.Namespace) -> int:
    manifest = checkpoints.restore(options.step, options.out)
    _write(f"{options.out}: the checkpoint of step {manifest.step}, {manifest.size / _MIB:.1f} MiB")
    return 0


def _body(manifest: Manifest) -> dict[str, object]:
    return {**manifest.model_dump(mode="json", exclude={"files", "versions"}), "bytes": manifest.size}


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
