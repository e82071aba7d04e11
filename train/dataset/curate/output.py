"""The folder of a set: made beside the old one, put in its place whole or not at all, with the manifest last."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import orjson

from train.dataset.curate.report import Report
from train.dataset.curate.shards import private_folder, write_json
from train.dataset.disk import digest_of
from train.dataset.formats import write_card

MANIFEST = "manifest.json"
REPORT = "report.json"
WORK = ".work"
#: In the work folder, the set that is being made; beside it, while that is published, the set of before.
MADE = "set"
_OLD = "old"
LOCK = ".lock"
DECISIONS = "decisions.jsonl"
DATA = "data"

_PARTS = (DATA, "plots", "README.md", REPORT, MANIFEST)
_OWN = {MANIFEST, WORK, LOCK, DECISIONS}


def foreign(out: Path) -> list[str]:
    """What lies in a folder and was not put there by an earlier run, as its manifest tells; links never were."""
    if not out.exists():
        return []
    # Of a run that was killed while it published, one manifest or both are in the work folder.
    manifests = [_listed(folder / MANIFEST) for folder in (out, out / WORK / _OLD, out / WORK / MADE)]
    listed = {name for names in manifests for name in names or ()}
    own = _OWN if manifests[0] is not None else _OWN - {MANIFEST}
    found = []
    for path in out.rglob("*"):
        name = path.relative_to(out)
        if name.parts[0] in own or (path.is_dir() and not path.is_symlink()):
            continue
        if str(name) not in listed or path.is_symlink():
            found.append(str(name))
    return sorted(found)


def _listed(manifest: Path) -> set[str] | None:
    """The files that a manifest of ours lists; none where it is something else, or is not there."""
    try:
        body = orjson.loads(manifest.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(body, dict) or "recipe" not in body or not isinstance(body.get("files"), list):
        return None
    return {str(file["path"]) for file in body["files"] if isinstance(file, dict) and "path" in file}


def write_report(folder: Path, report: Report) -> None:
    """Add the card, its plots, the report and the manifest to a folder with data."""
    write_card(folder, report.card())
    write_json(folder / REPORT, report.body())
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    body = {
        "recipe": report.recipe.body(),
        "fingerprint": report.fingerprint,
        "rows": sum(report.facts.rows.values()),
        "inputs": [{"name": file.name, "sha256": file.sha256} for file in report.inputs],
        "files": [
            {"path": str(path.relative_to(folder)), "sha256": digest_of(path), "bytes": path.stat().st_size}
            for path in files
        ],
    }
    write_json(folder / MANIFEST, body)


def publish(made: Path, out: Path) -> None:
    """Put a finished set in the place of the one in ``out``, or leave that one as it was.

    The manifest is the first to leave and the last to come: while it is under way, ``out`` has none.

    Raises:
        OSError: a file cannot be moved.
    """
    old = private_folder(out / WORK / _OLD)
    try:
        _move(out, old, _PARTS[::-1])
        _move(made, out, _PARTS)
    except BaseException:
        restore(out)
        raise
    shutil.rmtree(old)


def restore(out: Path) -> None:
    """Undo what a run began that was ended while it published; the set of before is put back.

    It can be ended, too, and begun again: what is not in the folder of the new set any more is from there.
    """
    old, made = out / WORK / _OLD, out / WORK / MADE
    if not old.exists():
        return
    if not (out / MANIFEST).exists():
        _move(out, made, [name for name in _PARTS if not (made / name).exists()])
        _move(old, out, _PARTS)
    shutil.rmtree(old)


def _move(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        if (source / name).exists():
            (source / name).rename(target / name)
