"""``python -m serve.models list|fetch|verify|remove|describe``: the models' weights on this node.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import yaml

from serve.models.describe import describe
from serve.models.errors import ModelSourceError
from serve.models.fetch import fetch_all
from serve.models.local import LocalFile, list_local, remove, verify
from serve.models.manifest import ready_manifest
from serve.models.place import Place
from serve.models.progress import size_text
from serve.models.sources.http import bare
from serve.models.wanted import listed
from serve.settings.config import load
from serve.settings.errors import SettingsError
from serve.settings.suggest import one_of
from serve.settings.weights import FolderSource, Source, Weights

#: What is told of one model; the keys of ``--json``.
Row = dict[str, Any]


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
    parser = argparse.ArgumentParser(
        prog="python -m serve.models", description="The models' files and folders on this node."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, run, text in (
        ("list", _list, "show the config's models and what else is here"),
        ("fetch", _fetch, "bring weights here; all of the config by default"),
        ("verify", _verify, "hash weights again; all of the config by default"),
        ("remove", _remove, "remove weights from this node"),
    ):
        command = commands.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="write one JSON list to standard output")
        if name == "remove":
            command.add_argument("--yes", action="store_true", help="do not ask")
        else:
            command.add_argument("--config", default="configs/local.yaml", help="a Serve config file")
        command.add_argument("models", nargs="+" if name == "remove" else "*", metavar="MODEL")
    text = "print what a config says of a file or folder of yours"
    command = commands.add_parser("describe", help=text, description=text[:1].upper() + text[1:] + ".")
    command.set_defaults(run=_describe)
    command.add_argument("path", metavar="PATH")
    return parser


def _list(options: argparse.Namespace) -> int:
    here = {(file.model_id, file.name): file for file in list_local()}
    rows = []
    for model_id, weights in _chosen(options).items():
        if weights is not None:
            rows.append(_configured(model_id, weights, here.pop((model_id, weights.name), None)))
    if not options.models:
        rows += [_row(file.model_id, file.state, file, total=None, in_config=False) for file in here.values()]
    if options.json:
        _tell_json(rows)
        return 0
    table = [("MODEL", "STATE", "SIZE", "SOURCE", "WHERE"), *map(_columns, rows)]
    model, state, size, source, _ = (max(map(len, column)) for column in zip(*table, strict=True))
    for line in table:
        _tell(f"{line[0]:<{model}}  {line[1]:<{state}}  {line[2]:>{size}}  {line[3]:<{source}}  {line[4]}")
    return 0


def _configured(model_id: str, weights: Weights, file: LocalFile | None) -> Row:
    """What is told of a model of the config, of which ``file`` is here."""
    place = Place.of(model_id, weights.name, None)
    wanted = listed(weights)
    total = None if wanted is None else sum(one.bytes for one in wanted)
    row = _row(model_id, "absent", file, total=total, in_config=True) | {"path": str(place.path)}
    ready = ready_manifest(place, weights)
    if ready is not None:
        row |= {"state": "ready", "bytes": ready.size, "total_bytes": ready.size, "source": ready.source}
        row["path"] = str(place.folder / ready.path)
    elif file is not None:
        # A manifest that fits what is here but not the settings: the config asks for other weights now.
        row |= {"state": "outdated" if file.state == "ready" else file.state, "path": str(file.path)}
    row["sources"] = [_shown(source) for source in weights.sources]
    return row


def _shown(source: Source | FolderSource) -> Row:
    """A source as the settings have it, without the secrets that an address may hold."""
    shown: Row = source.model_dump(exclude_none=True, exclude_defaults=True)
    if source.url is not None:
        shown["url"] = bare(source.url)
    if isinstance(source, FolderSource) and source.gguf is not None:
        shown["gguf"]["sources"] = [_shown(one) for one in source.gguf.sources]
    return shown


def _row(model_id: str, state: str, file: LocalFile | None, *, total: int | None, in_config: bool) -> Row:
    return {
        "model": model_id,
        "state": state,
        "in_config": in_config,
        "bytes": file.size if file else 0,
        "total_bytes": total,
        "path": str(file.path) if file else None,
        "source": file.source if file else None,
    }


def _columns(row: Row) -> tuple[str, str, str, str, str]:
    state = row["state"] if row["in_config"] else f"{row['state']}, not in the config"
    here, total = row["bytes"], row["total_bytes"]
    if row["state"] == "absent":
        size = "?" if total is None else size_text(total)
    elif row["state"] == "partial" and total is not None:
        size = f"{size_text(here)} of {size_text(total)}"
    else:
        size = size_text(here)
    kinds = ", ".join(kind for source in row.get("sources", []) for kind in source if kind != "storage_options")
    return row["model"], state, size, row["source"] or kinds or "unknown", row["path"]


def _fetch(options: argparse.Namespace) -> int:
    chosen = _chosen(options)
    told = _Told(options.json)
    for model_id in [model_id for model_id, weights in chosen.items() if weights is None]:
        told.right(model_id, "needs no file", path=None)
    for model_id, result in fetch_all({m: weights for m, weights in chosen.items() if weights}, progress=True):
        if isinstance(result, ModelSourceError):
            told.wrong(model_id, result)
        else:
            told.right(model_id, str(result), path=str(result))
    return told.end()


def _verify(options: argparse.Namespace) -> int:
    told = _Told(options.json)
    for model_id, weights in _chosen(options).items():
        if weights is None:
            told.right(model_id, "needs no file", path=None)
            continue
        try:
            path = verify(model_id, weights)
        except ModelSourceError as error:
            told.wrong(model_id, error)
        else:
            told.right(model_id, f"{path} is right", path=str(path))
    return told.end()


def _remove(options: argparse.Namespace) -> int:
    sizes: dict[str, int] = {}
    for file in list_local():
        sizes[file.model_id] = sizes.get(file.model_id, 0) + file.size
    for name in options.models:
        if name not in sizes:
            raise _UsageError(one_of("model", name, sizes))
    if not (options.yes or _agreed(list(dict.fromkeys(options.models)))):
        _tell_error("nothing was removed")
        return 1
    told = _Told(options.json)
    for name in dict.fromkeys(options.models):
        try:
            freed = remove(name)
        except ModelSourceError as error:
            told.wrong(name, error)
        else:
            told.right(name, f"{size_text(freed)} freed", freed_bytes=freed)
    return told.end()


def _describe(options: argparse.Namespace) -> int:
    _tell(yaml.safe_dump({"weights": describe(options.path)}, sort_keys=False, allow_unicode=True).rstrip())
    return 0


def _agreed(names: list[str]) -> bool:
    """Whether the person at the terminal says yes."""
    if not sys.stdin.isatty():
        raise _UsageError("nobody is there to be asked; say --yes to remove without asking")
    sys.stderr.write(f"remove the weights of {', '.join(names)} from this node? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


class _Told:
    """The results of one command: lines as they come, or one JSON list at the end."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._rows: list[Row] = []
        self._failed = False

    def right(self, model_id: str, text: str, **facts: object) -> None:
        self._rows.append({"model": model_id, "ok": True, **facts})
        if not self._json:
            _tell(f"{model_id}: {text}")

    def wrong(self, model_id: str, error: ModelSourceError) -> None:
        self._failed = True
        self._rows.append({"model": model_id, "ok": False, "error": str(error)})
        _tell_error(error)

    def end(self) -> int:
        """Write what is left to write; gives the exit code."""
        if self._json:
            _tell_json(self._rows)
        return int(self._failed)


def _chosen(options: argparse.Namespace) -> dict[str, Weights | None]:
    """The models asked for, or all of the config."""
    models = {model.id: model.weights for model in load(options.config).models}
    for name in options.models:
        if name not in models:
            raise _UsageError(one_of("model", name, models))
    return {name: models[name] for name in options.models} or models


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _tell_json(rows: list[Row]) -> None:
    _tell(json.dumps(rows, indent=2))


def _tell_error(error: object) -> None:
    sys.stderr.write(f"error: {error}\n")


if __name__ == "__main__":
    sys.exit(main())
