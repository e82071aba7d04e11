"""The folder of a set: made beside the old one, put in its place file by file, with the manifest last."""

from __future__ import annotations

import shutil
from pathlib import Path

from train.dataset.curate.report import Report
from train.dataset.curate.shards import digest_of, write_json
from train.dataset.formats import write_card

MANIFEST = "manifest.json"
REPORT = "report.json"
WORK = ".work"
LOCK = ".lock"
DECISIONS = "decisions.jsonl"
DATA = "data"

_OWN = {MANIFEST, REPORT, WORK, LOCK, DECISIONS, DATA, "plots", "README.md"}


def foreign(out: Path) -> list[str]:
    """What lies in a folder and was not put there by an earlier run."""
    return sorted(path.name for path in out.iterdir() if path.name not in _OWN) if out.exists() else []


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
    """Put a finished set in the place of the one in ``out``. While it is under way, ``out`` has no manifest."""
    (out / MANIFEST).unlink(missing_ok=True)
    for name in (DATA, "plots"):
        shutil.rmtree(out / name, ignore_errors=True)
        (made / name).rename(out / name)
    for name in ("README.md", REPORT, MANIFEST):
        (made / name).replace(out / name)
