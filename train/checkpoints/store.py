"""The checkpoints of a run: written whole, found, verified, copied, pruned; on whatever storage the run has."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from serve.settings.errors import fault_lines
from train.checkpoints.manifest import MANIFEST, Manifest, SavedFile, record
from train.run_folder import RunFolder

CHECKPOINTS = "checkpoints"


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message is one line and says why."""


class Checkpoints:
    """The checkpoints of one run: ``checkpoints/<step>/``."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """The steps of what has a manifest, rising. What a broken run left half written has none."""
        steps = sorted(int(name) for name in self.folder.names(CHECKPOINTS) if name.isdecimal())
        return [step for step in steps if MANIFEST in self.folder.names(path_of(step))]

    def list(self) -> list[Manifest]:
        """The checkpoints by their step, without those whose manifest cannot be understood; ``get`` says why not."""
        found = []
        for step in self.steps():
            try:
                found.append(self.get(step))
            except CheckpointError:
                continue
        return found

    def get(self, step: int) -> Manifest:
        """The manifest of a checkpoint.

        Raises:
            CheckpointError: there is none of that step, or its manifest cannot be understood.
            StorageError
        """
        path = f"{path_of(step)}/{MANIFEST}"
        content = self.folder.read(path)
        if content is None:
            steps = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(f"{self.folder.address}: there is no checkpoint of step {step}; there are: {steps}")
        try:
            return Manifest.model_validate_json(content)
        except ValidationError as error:
            faults = "; ".join(fault_lines(error, Manifest))
            raise CheckpointError(f"{self.folder.address}/{path}: {faults}") from None

    def best(self) -> Manifest | None:
        """The one with the least loss on the validation data, the earliest of equals; none where none was judged."""
        judged = [one for one in self.list() if one.eval_loss is not None]
        return min(judged, key=lambda one: (one.eval_loss, one.step), default=None)

    def begin(self, step: int) -> None:
        """Make room for a checkpoint: what is there of that step goes, its manifest first."""
        self.folder.remove(f"{path_of(step)}/{MANIFEST}")
        self.folder.remove(path_of(step))

    def add(self, step: int, source: Path, names: Iterable[str]) -> dict[str, SavedFile]:
        """Copy files of the folder ``source`` into a checkpoint that was begun; gives what they are."""
        added = {}
        for name in names:
            added[name] = record(source / name)
            self.folder.put(source / name, f"{path_of(step)}/{name}")
        return added

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, by which the checkpoint is whole from now on."""
        self.folder.write_json(f"{path_of(manifest.step)}/{MANIFEST}", manifest.model_dump(mode="json"))

    def verify(self, step: int) -> Manifest:
        """Read every file of a checkpoint and hold it to the manifest, which is given back.

        Raises:
            CheckpointError: one is missing or was changed.
            StorageError
        """
        manifest = self.get(step)
        with tempfile.TemporaryDirectory(prefix="groupqwen-checkpoint-") as scratch:
            for name, wanted in manifest.files.items():
                self._require(step, name, wanted, Path(scratch))
        return manifest

    def prune(self, keep: int) -> Sequence[int]:
        """Remove all but the last ``keep`` checkpoints and the best one; gives the steps that went."""
        steps = self.steps()
        best = self.best()
        kept = {*steps[-keep:], *([best.step] if best else [])}
        gone = [step for step in steps if step not in kept]
        for step in gone:
            self.begin(step)
        return gone

    def restore(self, step: int, target: Path) -> Manifest:
        """Copy a checkpoint to the folder ``target``, which must not be there or be empty, and verify the copy.

        Raises:
            CheckpointError: the target has files in it, or the checkpoint is not whole.
            StorageError
        """
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise CheckpointError(f"{target} is there already and not empty; name another folder")
        manifest = self.get(step)
        for name, wanted in manifest.files.items():
            self.folder.get(f"{path_of(step)}/{name}", target / name)
            _compare(f"{self.folder.address}/{path_of(step)}/{name}", record(target / name), wanted)
        (target / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
        return manifest

    @contextmanager
    def opened(self, step: int) -> Iterator[Path]:
        """The folder of a checkpoint on this node, verified: where it lies, or a copy for the time being.

        Raises:
            CheckpointError, StorageError
        """
        if self.folder.local is not None:
            self.verify(step)
            yield self.folder.local / path_of(step)
            return
        with tempfile.TemporaryDirectory(prefix="groupqwen-checkpoint-") as scratch:
            self.restore(step, Path(scratch))
            yield Path(scratch)

    def _require(self, step: int, name: str, wanted: SavedFile, scratch: Path) -> None:
        """Hold a file to its record, where it lies or as a copy that does not stay."""
        inner = f"{path_of(step)}/{name}"
        local = self.folder.local
        path = scratch / "file" if local is None else local / inner
        if local is None:
            self.folder.get(inner, path)
        elif not path.is_file():
            raise CheckpointError(f"{path}: is missing")
        _compare(f"{self.folder.address}/{inner}", record(path), wanted)


def path_of(step: int) -> str:
    """The folder of a checkpoint in its run."""
    return f"{CHECKPOINTS}/{step}"


def _compare(where: str, found: SavedFile, wanted: SavedFile) -> None:
    if found != wanted:
        raise CheckpointError(f"{where}: was changed or cut since it was written")
