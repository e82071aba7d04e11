"""``python -m serve.models list|fetch|verify|remove``: the models' files on this node.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from serve.models.errors import ModelSourceError
from serve.models.fetch import fetch
from serve.models.local import LocalFile, list_local, remove, verify
from serve.models.manifest import ready_manifest
from serve.models.place import Place
from serve.models.progress import size_text
from serve.models.wanted import listed
from serve.settings.config import load
from serve.settings.errors import SettingsError
from serve.settings.model import ModelSettings
from serve.settings.suggest import one_of
from serve.settings.weights import Weights


class _UsageError(Exception):
    """The command line asks for what does not exist; the message is one line."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        code: int = options.run(options)
    except _UsageError as error:
        parser.error(str(error))
    except (SettingsError, ModelSourceError) as error:
        _tell_error(error)
        code = 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run it again to go on where it stopped\n")
        code = 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.models", description="The models' files on this node.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, run, text in (
        ("list", _list, "show the config's models and what else is here"),
        ("fetch", _fetch, "bring files here; all of the config by default"),
        ("verify", _verify, "hash files again; all of the config by default"),
        ("remove", _remove, "remove files from this node"),
    ):
        command = commands.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        command.set_defaults(run=run)
        if name == "remove":
            command.add_argument("models", nargs="+", metavar="MODEL")
            continue
        command.add_argument("--config", default="configs/local.yaml", help="a Serve config file")
        if name != "list":
            command.add_argument("models", nargs="*", metavar="MODEL")
    return parser


def _list(options: argparse.Namespace) -> int:
    here = {(file.model_id, file.name): file for file in list_local()}
    rows = [("MODEL", "STATE", "SIZE", "WHERE")]
    for model in load(options.config).models:
        if model.weights is not None:
            rows.append(_row(model.id, model.weights, here.pop((model.id, model.weights.name), None)))
    rows += [
        (file.model_id, f"{file.state}, not in the config", size_text(file.size), str(file.path))
        for file in here.values()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        _tell(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}")
    return 0


def _row(model_id: str, weights: Weights, file: LocalFile | None) -> tuple[str, str, str, str]:
    place = Place.of(model_id, weights.name, None)
    ready = ready_manifest(place, weights)
    if ready is not None:
        return model_id, "ready", size_text(ready.size), str(place.folder / ready.path)
    if file is None:
        wanted = listed(weights)
        size = "?" if wanted is None else size_text(sum(one.bytes for one in wanted))
        return model_id, "absent", size, str(place.path)
    # A manifest that fits its file but not the settings: the config asks for another file now.
    state = "outdated" if file.state == "ready" else file.state
    return model_id, state, size_text(file.size), str(file.path)


def _fetch(options: argparse.Namespace) -> int:
    return _for_each(options, lambda name, weights: f"{fetch(name, weights, progress=True)}")


def _verify(options: argparse.Namespace) -> int:
    return _for_each(options, lambda name, weights: f"{verify(name, weights)} is right")


def _remove(options: argparse.Namespace) -> int:
    here = {file.model_id for file in list_local()}
    for name in options.models:
        if name not in here:
            raise _UsageError(one_of("model", name, here))
    for name in options.models:
        _tell(f"{name}: {size_text(remove(name))} freed")
    return 0


def _for_each(options: argparse.Namespace, act: Callable[[str, Weights], str]) -> int:
    """Do something with each model asked for; a failure does not keep the others from their turn."""
    code = 0
    for model in _chosen(options):
        if model.weights is None:
            _tell(f"{model.id}: needs no file")
            continue
        try:
            _tell(f"{model.id}: {act(model.id, model.weights)}")
        except ModelSourceError as error:
            _tell_error(error)
            code = 1
    return code


def _chosen(options: argparse.Namespace) -> list[ModelSettings]:
    models = {model.id: model for model in load(options.config).models}
    for name in options.models:
        if name not in models:
            raise _UsageError(one_of("model", name, models))
    return [models[name] for name in dict.fromkeys(options.models)] or list(models.values())


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _tell_error(error: Exception) -> None:
    sys.stderr.write(f"error: {error}\n")


if __name__ == "__main__":
    sys.exit(main())
