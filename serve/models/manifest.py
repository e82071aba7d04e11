"""What files on disk are known to be, so that they are not hashed at every start."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, ValidationError

from serve.models.place import Place, user_path
from serve.models.wanted import WantedFile, listed, pins
from serve.settings.base import Settings
from serve.settings.weights import Weights

logger = logging.getLogger(__name__)


class FileRecord(Settings):
    """A file that was hashed and found right.

    Attributes:
        file: its path in the folder; empty where the weights are one file.
        size: bytes.
        mtime_ns: when it was last changed, in nanoseconds since 1970.
        digest: of its content, as in ``WantedFile``.
    """

    file: str
    size: int
    mtime_ns: int
    digest: str

    @property
    def wanted(self) -> WantedFile:
        """What the file was when it was found right."""
        return WantedFile(self.file, self.size, self.digest)

    def describes(self, path: Path) -> bool:
        """Whether the file at ``path`` is still the one that was hashed, by its size and time of change."""
        try:
            seen = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (seen.st_size, seen.st_mtime_ns) == (self.size, self.mtime_ns)


class Manifest(Settings):
    """Weights of which every file was found right.

    Attributes:
        path: their name in the model's folder, or an absolute path where they lie outside.
        files: each of their files.
        source: where they came from; holds no secret.
        pin: for a source that knows its own files, which content it gives (``pin_of``).
        made_with: for a checkpoint made here, the versions of what made it.
        fetched_at: when they were found right.
    """

    path: str
    files: Annotated[list[FileRecord], Field(min_length=1)]
    source: str
    pin: str | None = None
    made_with: dict[str, str] | None = None
    fetched_at: AwareDatetime

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def describes(self, path: Path) -> bool:
        """Whether the weights at ``path`` are still those that were hashed, by sizes and times of change."""
        return all(file.describes(path / file.file) for file in self.files)

    def suits(self, weights: Weights) -> bool:
        """Whether these weights are those that the settings ask for."""
        wanted = listed(weights)
        if wanted is not None and {file.wanted for file in self.files} == set(wanted):
            return True
        return self.pin is not None and self.pin in pins(weights)


def read_manifest(place: Place) -> Manifest | None:
    """The manifest of a place; none when there is none, or none that can be understood."""
    try:
        return Manifest.model_validate_json(place.manifest.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        logger.warning("%s is not a manifest; the weights will be checked again", place.manifest)
        return None


def write_manifest(
    place: Place,
    path: Path,
    files: Sequence[FileRecord],
    source: str,
    *,
    pin: str | None = None,
    made_with: dict[str, str] | None = None,
) -> None:
    """Note that the weights at ``path`` hold these files. Must come last."""
    manifest = Manifest(
        path=place.name if path == place.path else str(path),
        files=sorted(files, key=lambda file: file.file),
        source=source,
        pin=pin,
        made_with=made_with,
        fetched_at=datetime.now(UTC),
    )
    write_atomically(place.manifest, manifest.model_dump_json(indent=2, exclude_none=True))


def ready_manifest(place: Place, weights: Weights) -> Manifest | None:
    """The manifest, if it suits the settings and what lies on disk, without hashing; none when that must be done."""
    manifest = read_manifest(place)
    if manifest is None or not manifest.suits(weights):
        return None
    path = place.folder / manifest.path
    return manifest if path in known_paths(place, weights) and manifest.describes(path) else None


def ready_path(place: Place, weights: Weights) -> Path | None:
    """Where the verified weights lie, going by their manifest and without hashing; none when that must be done."""
    manifest = ready_manifest(place, weights)
    return None if manifest is None else place.folder / manifest.path


def known_paths(place: Place, weights: Weights) -> list[Path]:
    """Where weights may lie: in their place, or where the settings say that the user has them."""
    return [place.path, *(user_path(source.path) for source in weights.sources if source.path)]


def checked(path: Path, wanted: WantedFile) -> FileRecord:
    """Hash the file at ``path``; gives its state from before the hashing, so that a later change shows.

    Raises:
        WrongContent: it is not the file that is wanted.
    """
    seen = path.stat()
    wanted.require_size(seen.st_size)
    with path.open("rb") as file:
        wanted.require(hashlib.file_digest(file, wanted.hasher).hexdigest())
    return record_of(wanted, seen)


def record_of(wanted: WantedFile, seen: os.stat_result) -> FileRecord:
    """The record of a file that is right, as it was at ``seen``."""
    return FileRecord(file=wanted.name, size=seen.st_size, mtime_ns=seen.st_mtime_ns, digest=wanted.digest)


def write_atomically(path: Path, text: str) -> None:
    """Write a small file such that a crash leaves the old one or the new one, never half of it."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
