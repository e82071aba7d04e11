"""What a file on disk is known to be, so that it is not hashed at every start."""

from __future__ import annotations

import hashlib
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from serve.models.errors import WrongContent
from serve.models.place import Place, user_path
from serve.settings.base import Settings
from serve.settings.weights import WeightsSettings

logger = logging.getLogger(__name__)


class Manifest(Settings):
    """A file that was hashed and found right.

    Attributes:
        file: its name in the model's folder, or an absolute path where it lies outside.
        size: bytes.
        mtime_ns: when it was last changed, in nanoseconds since 1970.
        sha256: of its content, in hexadecimal.
        source: where it came from; holds no secret.
        fetched_at: when it was found right.
    """

    file: str
    size: int
    mtime_ns: int
    sha256: str
    source: str
    fetched_at: AwareDatetime

    def describes(self, path: Path) -> bool:
        """Whether the file at ``path`` is still the one that was hashed, by its size and time of change."""
        try:
            seen = path.stat()
        except FileNotFoundError:
            return False
        return (seen.st_size, seen.st_mtime_ns) == (self.size, self.mtime_ns)


def read_manifest(place: Place) -> Manifest | None:
    """The manifest of a file; none when there is none, or none that can be understood."""
    try:
        return Manifest.model_validate_json(place.manifest.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        logger.warning("%s is not a manifest; the file will be checked again", place.manifest)
        return None


def write_manifest(place: Place, path: Path, seen: os.stat_result, sha256: str, source: str) -> None:
    """Note that the file at ``path``, as it was at ``seen``, has this hash. Must come last."""
    manifest = Manifest(
        file=place.name if path == place.file else str(path),
        size=seen.st_size,
        mtime_ns=seen.st_mtime_ns,
        sha256=sha256,
        source=source,
        fetched_at=datetime.now(UTC),
    )
    write_atomically(place.manifest, manifest.model_dump_json(indent=2))


def ready_path(place: Place, weights: WeightsSettings) -> Path | None:
    """Where the verified file lies, going by its manifest and without hashing; none when it must be hashed."""
    manifest = read_manifest(place)
    if manifest is None or (manifest.sha256, manifest.size) != (weights.sha256, weights.bytes):
        return None
    path = place.folder / manifest.file
    # A path outside counts only while the settings still name it.
    known = [place.file, *(user_path(source.path) for source in weights.sources if source.path)]
    return path if path in known and manifest.describes(path) else None


def checked(path: Path, weights: WeightsSettings) -> os.stat_result:
    """Hash the file at ``path``; gives its state from before the hashing, so that a later change shows.

    Raises:
        WrongContent: it is not the file that the settings describe.
    """
    seen = path.stat()
    if seen.st_size != weights.bytes:
        raise WrongContent(f"it has {seen.st_size} bytes, expected {weights.bytes}")
    with path.open("rb") as file:
        require_sha256(hashlib.file_digest(file, "sha256").hexdigest(), weights)
    return seen


def require_sha256(got: str, weights: WeightsSettings) -> None:
    """Raise ``WrongContent`` when a hash is not the expected one."""
    if got != weights.sha256:
        raise WrongContent(f"its SHA-256 is {got}, expected {weights.sha256}")


def write_atomically(path: Path, text: str) -> None:
    """Write a small file such that a crash leaves the old one or the new one, never half of it."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
