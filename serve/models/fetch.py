"""Bring a model's verified file to this node: from disk if it is there, else from the first source that has it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from serve.models.errors import ModelSourceError, SourceFailed, WrongContent, no_source
from serve.models.manifest import checked, ready_path, require_sha256, write_manifest
from serve.models.partial import PartialFile
from serve.models.place import Place, locked, user_path
from serve.models.progress import BarReporter, LogReporter, Reporter, size_text
from serve.models.sources import Download, download_of
from serve.settings.weights import Source, WeightsSettings

#: Left free on the disk, in bytes, for whatever else writes to it meanwhile.
SPACE_MARGIN = 64 * 1024 * 1024


def local_path(model_id: str, weights: WeightsSettings, *, root: Path | None = None) -> Path:
    """Where the verified file lies; fetched, with log lines only, when it is not there yet.

    Raises:
        ModelSourceError: no source gave it, or it cannot be kept here.
    """
    return fetch(model_id, weights, progress=False, root=root)


def fetch(model_id: str, weights: WeightsSettings, *, progress: bool, root: Path | None = None) -> Path:
    """Where the verified file lies; fetched when it is not there yet, with a progress bar or quietly.

    A file whose manifest fits is taken without hashing it again. One process fetches at a time; others wait and
    take what it got. An interrupted fetch is taken up again by the next one.

    Args:
        model_id: the model's id, also the name of its folder.
        weights: the file, its hash and its sources.
        progress: write progress to stderr instead of to the log.
        root: folder of all models; the environment's by default.

    Raises:
        ModelSourceError: no source gave it, or it cannot be kept here.
    """
    place = Place.of(model_id, weights.file, root)
    reporter: Reporter = BarReporter(model_id, weights.bytes) if progress else LogReporter()
    job = _Fetch(model_id, weights, place, reporter)
    try:
        if (ready := ready_path(place, weights)) is not None:
            return ready
        with locked(place, lambda: reporter.note(f"another process is fetching {model_id}; waiting")):
            return ready_path(place, weights) or job.from_disk() or job.from_sources()
    except OSError as failure:
        reason = failure.strerror or str(failure)
        raise ModelSourceError(f"{model_id}: cannot keep files in {place.folder}: {reason}") from failure


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One fetch; its methods are called with the lock held."""

    model_id: str
    weights: WeightsSettings
    place: Place
    reporter: Reporter

    def from_disk(self) -> Path | None:
        """The file, if it lies in its place though no manifest says so; a wrong one is removed."""
        file = self.place.file
        if not file.exists():
            return None
        self._note(f"checking {file}")
        try:
            seen = checked(file, self.weights)
        except WrongContent as failure:
            self._warn(f"{file} is removed: {failure}")
            file.unlink()
            return None
        write_manifest(self.place, file, seen, self.weights.sha256, "found on disk")
        return file

    def from_sources(self) -> Path:
        """The file from the first source that has it."""
        failures: list[tuple[str, str]] = []
        left = len(self.weights.sources)
        for source in self.weights.sources:
            left -= 1
            label, take = self._way(source)
            try:
                return take()
            except SourceFailed as failure:
                failures.append((label, str(failure)))
                if left:
                    self._warn(f"{label}: {failure}; trying the next source")
        raise no_source(self.model_id, failures)

    def _way(self, source: Source) -> tuple[str, Callable[[], Path]]:
        """A source's name, and what takes the file from it."""
        if source.path is not None:
            path = user_path(source.path)
            return str(path), partial(self._in_place, path)
        download = download_of(source, self.place)
        return download.label, partial(self._download, download)

    def _in_place(self, path: Path) -> Path:
        """The user's own file, where it lies; it is never changed."""
        if not path.is_file():
            raise SourceFailed("there is no such file")
        self._note(f"checking {path}")
        try:
            seen = checked(path, self.weights)
        except OSError as failure:
            raise SourceFailed(f"it cannot be read: {failure.strerror}") from failure
        write_manifest(self.place, path, seen, self.weights.sha256, f"path {path}")
        return path

    def _download(self, download: Download) -> Path:
        """Download, check, and only then give the file its name."""
        try:
            source = self._complete_part(download)
        except WrongContent:
            self.place.discard_download()
            raise
        self.place.part.replace(self.place.file)
        seen = self.place.file.stat()
        write_manifest(self.place, self.place.file, seen, self.weights.sha256, source)
        self.place.discard_download()
        self._note(f"{size_text(self.weights.bytes)} fetched and verified")
        return self.place.file

    def _complete_part(self, download: Download) -> str:
        """Bring the part to its full, verified length; gives where it came from."""
        with PartialFile(self.place, self.weights.bytes, self.reporter) as part:
            try:
                self._fill(part, download)
            except WrongContent as failure:
                if not part.resumed:
                    raise
                # The bytes of an earlier try may be the wrong ones; this source gets a chance of its own.
                self._warn(f"the resumed download is not right ({failure}); starting over")
                part.restart()
                self._fill(part, download)
            origin = part.origin()
        return origin.source if origin else download.address

    def _fill(self, part: PartialFile, download: Download) -> None:
        missing = self.weights.bytes - part.size
        if missing:
            self._require_space(download.space(missing, self.weights.bytes))
            left = f", {size_text(part.size)} are here already" if part.size else ""
            self._note(f"fetching {size_text(self.weights.bytes)} from {download.label}{left}")
            download.fill(part, self._note)
        require_sha256(part.finish(), self.weights)

    def _require_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.place.folder).free
        if free < needed + SPACE_MARGIN:
            raise SourceFailed(
                f"not enough disk space: {size_text(needed + SPACE_MARGIN)} needed in {self.place.folder},"
                f" {size_text(free)} free"
            )

    def _note(self, line: str) -> None:
        self.reporter.note(f"{self.model_id}: {line}")

    def _warn(self, line: str) -> None:
        self.reporter.warn(f"{self.model_id}: {line}")
