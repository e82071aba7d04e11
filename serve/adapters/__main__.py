"""The adapter registry from the command line.

    python -m serve.adapters list [MODEL]
    python -m serve.adapters publish MODEL NAME FOLDER [--config FILE | --base-sha256 HASH ...]
                                     [--training-data TEXT] [--evaluation FILE]
    python -m serve.adapters withdraw MODEL NAME
    python -m serve.adapters verify [MODEL [NAME]]

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from serve.adapters.errors import RegistryError
from serve.adapters.manifest import Base
from serve.adapters.registry import Published, Registry
from serve.models.wanted import base_sha256
from serve.settings.config import load
from serve.settings.errors import SettingsError, parsed
from serve.settings.suggest import one_of


class _UsageError(Exception):
    """The command line asks for what does not exist; the message is one line."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        code: int = options.run(options, Registry(options.registry))
    except _UsageError as error:
        parser.error(str(error))
    except (RegistryError, SettingsError) as error:
        sys.stderr.write(f"error: {error}\n")
        code = 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.adapters", description="The adapters of every model.")
    parser.add_argument("--registry", type=Path, help="its folder; by default GROUPQWEN_ADAPTERS_DIR")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="show what is published")
    listing.add_argument("model", nargs="?", metavar="MODEL")
    listing.set_defaults(run=_list)
    publish = commands.add_parser("publish", help="publish a PEFT folder; replicas take it up within 5 seconds")
    publish.add_argument("model", metavar="MODEL", help="the id of the model that it was trained on")
    publish.add_argument("name", metavar="NAME", help="clients ask for MODEL:NAME")
    publish.add_argument("folder", metavar="FOLDER", type=Path, help="adapter_config.json, adapter_model.safetensors")
    publish.add_argument("--config", help="take the base's hash from this Serve config (configs/local.yaml)")
    publish.add_argument("--base-sha256", action="append", metavar="HASH", help="a hash of the base's weights")
    publish.add_argument("--chat-template-sha256", metavar="HASH", help="of the template that it was trained with")
    publish.add_argument("--training-data", metavar="TEXT", help="fingerprint of what it was trained on")
    publish.add_argument("--evaluation", type=Path, metavar="FILE", help="a JSON report")
    publish.set_defaults(run=_publish)
    withdraw = commands.add_parser("withdraw", help="take one out; requests that run on it end by themselves")
    withdraw.add_argument("model", metavar="MODEL")
    withdraw.add_argument("name", metavar="NAME")
    withdraw.set_defaults(run=_withdraw)
    verify = commands.add_parser("verify", help="read and check what is published; all of it by default")
    verify.add_argument("model", nargs="?", metavar="MODEL")
    verify.add_argument("name", nargs="?", metavar="NAME")
    verify.set_defaults(run=_verify)
    return parser


def _list(options: argparse.Namespace, registry: Registry) -> int:
    for one in registry.list(options.model):
        _tell(_line(one))
    return 0


def _publish(options: argparse.Namespace, registry: Registry) -> int:
    hashes = options.base_sha256 or [_served_hash(options.model, options.config or "configs/local.yaml")]
    base = {"model": options.model, "weights_sha256": hashes, "chat_template_sha256": options.chat_template_sha256}
    manifest = registry.publish(
        parsed(Base, base, "base"),
        options.name,
        options.folder,
        training_data=options.training_data,
        evaluation=_report(options.evaluation) if options.evaluation else None,
    )
    _tell(f"{options.model}:{options.name}: version {manifest.version} is published")
    return 0


def _withdraw(options: argparse.Namespace, registry: Registry) -> int:
    registry.withdraw(options.model, options.name)
    _tell(f"{options.model}:{options.name}: withdrawn")
    return 0


def _verify(options: argparse.Namespace, registry: Registry) -> int:
    """Check each adapter asked for; a bad one does not keep the others from their turn."""
    code = 0
    if options.name:
        chosen = [(options.model, options.name)]
    else:
        chosen = [(one.model, one.name) for one in registry.list(options.model)]
    for model, name in chosen:
        try:
            _tell(f"{model}:{name}: version {registry.verify(model, name).version} is right")
        except RegistryError as error:
            sys.stderr.write(f"error: {model}:{name}: {error}\n")
            code = 1
    return code


def _served_hash(model: str, config: str) -> str:
    """The hash of the file that a config serves as ``model``."""
    models = {one.id: one for one in load(config).models}
    if model not in models:
        raise _UsageError(f"{one_of('model', model, models)} ({config}; name another with --config)")
    weights = models[model].weights
    base = base_sha256(weights) if weights is not None else None
    if base is None:
        raise _UsageError(f"{config} names no file for {model!r}; state the base's hash with --base-sha256")
    return base


def _report(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _UsageError(f"--evaluation: {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _UsageError(f"--evaluation: {path} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise _UsageError(f"--evaluation: {path} must hold a JSON object")
    return found


def _line(one: Published) -> str:
    """An adapter's row of the list, parted by tabs."""
    if one.manifest is None:
        return f"{one.model}:{one.name}\tbad\t{one.fault}"
    found = one.manifest
    size = sum(record.bytes for record in found.files.values())
    parts = (f"rank {found.rank}", f"{size} bytes", f"{found.created:%Y-%m-%d %H:%M} UTC")
    return "\t".join((f"{one.model}:{one.name}", found.version, *parts))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
