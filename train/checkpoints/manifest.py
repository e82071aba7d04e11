"""``manifest.json`` of a checkpoint: what it holds, for people and programs. Written last: what has one is whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from serve.settings.base import Settings

MANIFEST = "manifest.json"

Engine = Literal["unsloth", "peft"]


class SavedFile(Settings):
    """A file: its size in bytes and its SHA-256."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(Settings):
    """A checkpoint.

    Attributes:
        format: of the manifest itself.
        step: steps done. total_steps: of the whole run. epoch: times through the data.
        tokens: read so far, without padding.
        workers: that made it; each has random states of its own.
        loss: of this step. eval_loss: on the validation data, where there is some.
        engine: what trained, Unsloth or PEFT alone; none in what was written before this was noted.
        versions: of the libraries that wrote it, Unsloth's among them where it trained.
        files: everything else in the folder: weights, the optimizer's and the schedule's state, random states, and
            ``trainer_state.json`` with the place in the data.
    """

    format: Literal[1] = 1
    step: Annotated[int, Field(ge=0)]
    total_steps: Annotated[int, Field(ge=0)]
    epoch: float
    tokens: int
    workers: Annotated[int, Field(ge=1)]
    loss: float | None = None
    eval_loss: float | None = None
    created: AwareDatetime
    engine: Engine | None = None
    versions: dict[str, str]
    files: dict[str, SavedFile]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files.values())


def record(path: Path) -> SavedFile:
    """What the file at ``path`` is."""
    with path.open("rb") as file:
        return SavedFile(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
