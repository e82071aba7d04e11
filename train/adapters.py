"""Publishes what a run has tuned, and decides who answers for the model: ``python -m train.adapters``.

    python -m train.adapters publish RUN [--name NAME] [--evaluation FILE]
    python -m train.adapters canary MODEL NAME --weight 0.1
    python -m train.adapters promote MODEL NAME
    python -m train.adapters rollback MODEL
    python -m train.adapters history MODEL

Exit codes: 0 done, 1 failed, 2 wrong usage, 75 the registry or the run's folder cannot be used now.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson

from serve.adapters.errors import RegistryError, StorageFailed
from serve.adapters.files import version_in
from serve.adapters.manifest import Base, Manifest
from serve.adapters.promotions import Promotion, Promotions, Rules
from serve.adapters.registry import Registry
from serve.settings.errors import SettingsError, parsed
from train.evaluate.report import FOLDER, REPORT, is_of, summary
from train.finetune.result import MADE_FOR
from train.run_folder import ADAPTER, TRY_AGAIN, RunFolder, StorageError, StorageUnreachable

Json = dict[str, Any]


def publish(
    run: RunFolder,
    name: str | None = None,
    *,
    registry: Registry | None = None,
    evaluation: Json | None = None,
    replace: bool = True,
) -> Manifest:
    """Publish the adapter of a finished run: replicas of its model answer as ``<model>:<name>`` within 5 seconds.

    Args:
        name: by default the run's.
        registry: by default the environment's.
        evaluation: a report of ``train.evaluate`` on this adapter; what was said in it is left out. By default the
            one that lies in the run's folder, if it is on this adapter; an empty one for none.
        replace: it takes the place of another content that has the name.

    Raises:
        SettingsError: the run has no adapter, or does not say what it was trained on; or the report is on another
            adapter.
        StorageError: its folder cannot be read.
        RegistryError: the adapter cannot be served, or the registry cannot be written; or the name is taken.
    """
    origin = run.read_json(f"{ADAPTER}/{MADE_FOR}")
    if origin is None or "base" not in origin:
        raise SettingsError(f"{run.address}: has no {ADAPTER}/{MADE_FOR}; is it the folder of a finished run?")
    base = parsed(Base, origin["base"], f"{ADAPTER}/{MADE_FOR}: base")
    with run.on_disk(ADAPTER) as folder:
        version = version_in(folder)
        if evaluation and not is_of(evaluation, base.model, version):
            raise SettingsError(
                f"the evaluation is on version {evaluation.get('version')} of an adapter of"
                f" {evaluation.get('model')}; {run.address} has {version} of {base.model}"
            )
        report = _own_report(run, base.model, version) if evaluation is None else evaluation
        return (registry or Registry()).publish(
            base,
            name or run.name,
            folder,
            training_data=origin.get("training_data"),
            evaluation=summary(report),
            replace=replace,
        )


def _own_report(run: RunFolder, model: str, version: str) -> Json:
    """The report in the run's folder; an empty one where there is none, or one on what the run was before."""
    found = run.read_json(f"{FOLDER}/{REPORT}")
    return found if found is not None and is_of(found, model, version) else {}


def main(argv: list[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    options = _parser().parse_args(argv)
    try:
        options.run_command(options, Registry(options.registry))
    except (RegistryError, SettingsError, StorageError) as error:
        sys.stderr.write(f"error: {error}\n")
        return TRY_AGAIN if isinstance(error, (StorageFailed, StorageUnreachable)) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.adapters", description="Publish and promote adapters.")
    parser.add_argument("--registry", type=Path, help="its folder; by default GROUPQWEN_ADAPTERS_DIR")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    publishing = commands.add_parser("publish", help="serve what a run has tuned, under a name of its own")
    publishing.add_argument("run", metavar="RUN", help="the run's folder")
    publishing.add_argument("--name", metavar="NAME", help="clients ask for MODEL:NAME; by default the run's name")
    publishing.add_argument("--evaluation", type=Path, metavar="FILE", help=f"by default RUN/{FOLDER}/{REPORT}")
    publishing.set_defaults(run_command=_publish)
    canary = commands.add_parser("canary", help="let one answer a part of the requests for its model")
    canary.add_argument("--weight", type=_share, required=True, metavar="SHARE", help="0 to 1")
    canary.set_defaults(run_command=_canary)
    promote = commands.add_parser("promote", help="let one answer all requests for its model")
    promote.set_defaults(run_command=_promote)
    for command in (canary, promote):
        command.add_argument("model", metavar="MODEL")
        command.add_argument("name", metavar="NAME")
        command.add_argument("--reason", default="", metavar="TEXT", help="do it although the gate did not pass it")
        for name, rule in Rules.model_fields.items():
            option = f"--{name.replace('_', '-')}"
            kind = int if isinstance(rule.default, int) else float
            command.add_argument(option, type=kind, metavar="N", help=f"roll back by itself; {rule.default:g}")
    rollback = commands.add_parser("rollback", help="take the canary out, else the promoted adapter")
    rollback.add_argument("model", metavar="MODEL")
    rollback.add_argument("--reason", default="by hand", metavar="TEXT")
    rollback.set_defaults(run_command=_rollback)
    history = commands.add_parser("history", help="what was promoted and rolled back, when, by whom and why")
    history.add_argument("model", metavar="MODEL")
    history.set_defaults(run_command=_history)
    return parser


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return found


def _publish(options: argparse.Namespace, registry: Registry) -> None:
    evaluation = _report(options.evaluation) if options.evaluation else None
    manifest = publish(RunFolder.of(options.run), options.name, registry=registry, evaluation=evaluation)
    told = "" if manifest.evaluation else ", not evaluated"
    _tell(f"{manifest.base.model}:{manifest.name}: version {manifest.version} is published{told}")


def _canary(options: argparse.Namespace, registry: Registry) -> None:
    made = Promotions(registry).canary(
        options.model,
        options.name,
        options.weight,
        by="operator",
        reason=options.reason,
        rules=_rules(options),
    )
    _tell(_line(made))


def _promote(options: argparse.Namespace, registry: Registry) -> None:
    promotions = Promotions(registry)
    made = promotions.promote(
        options.model, options.name, by="operator", reason=options.reason, rules=_rules(options)
    )
    _tell(_line(made))


def _rollback(options: argparse.Namespace, registry: Registry) -> None:
    made = Promotions(registry).roll_back(options.model, by="operator", reason=options.reason)
    _tell(
        f"{options.model}: the model itself answers; there is nothing to roll back" if made is None else _line(made)
    )


def _history(options: argparse.Namespace, registry: Registry) -> None:
    for one in Promotions(registry).history(options.model):
        _tell(_line(one))


def _rules(options: argparse.Namespace) -> Rules | None:
    stated = {name: getattr(options, name) for name in Rules.model_fields if getattr(options, name) is not None}
    return parsed(Rules, stated, "rules") if stated else None


def _report(path: Path) -> Json:
    try:
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"{path}: is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: must hold a JSON object")
    return found


def _line(one: Promotion) -> str:
    """A record for people, parted by tabs."""
    standing = one.standing
    default = standing.default.name if standing.default else "the model itself"
    part = f", {standing.canary.name} by {standing.canary.weight:g}" if standing.canary else ""
    who = f"{one.action} {one.adapter.name}@{one.adapter.version}"
    return "\t".join((str(one.number), f"{one.at:%Y-%m-%d %H:%M} UTC", who, one.by, one.reason, f"{default}{part}"))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
