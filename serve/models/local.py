"""The models' files on this node: listed, verified, removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serve.models.errors import ModelSourceError, WrongContent
from serve.models.manifest import checked, read_manifest, ready_path, write_manifest
from serve.models.place import Place, locked, model_folder, root_or_default, user_path
from serve.settings.weights import WeightsSettings

State = Literal["ready", "unchecked", "partial", "missing"]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One model's file on this node.

    Attributes:
        model_id: the model.
        name: the file's name in the model's folder.
        path: where the file lies, or will lie.
        size: bytes on disk.
        state: ready: its manifest fits it; unchecked: it is hashed at its next use; partial: its download is not
            done; missing: it has a manifest and is gone.
        source: where it came from, if known.
    """

    model_id: str
    name: str
    path: Path
    size: int
    state: State
    source: str | None


def list_local(*, root: Path | None = None) -> list[LocalFile]:
    """Every model file on this node, in the order of the models' ids."""
    folder = root_or_default(root)
    if not folder.is_dir():
        return []
    places = [(model.name, place) for model in sorted(folder.iterdir()) for place in _places(model)]
    return [_seen(model_id, place) for model_id, place in places]


def verify(model_id: str, weights: WeightsSettings, *, root: Path | None = None) -> Path:
    """Hash the model's file, whatever its manifest says; gives where it lies.

    A wrong file loses its manifest, so that the next fetch replaces it.

    Raises:
        ModelSourceError: there is no file, it is a wrong one, or it cannot be read.
    """
    place = Place.of(model_id, weights.file, root)
    try:
        path = ready_path(place, weights) or _first_there(place, weights)
        with locked(place, lambda: _refuse(model_id)):
            try:
                seen = checked(path, weights)
            except WrongContent as failure:
                place.manifest.unlink(missing_ok=True)
                raise ModelSourceError(f"{model_id}: {path} is not right: {failure}") from failure
            known = read_manifest(place)
            source = known.source if known else "found on disk"
            write_manifest(place, path, seen, weights.sha256, source)
    except FileNotFoundError as failure:
        raise ModelSourceError(f"{model_id}: there is no file yet; fetch it first") from failure
    except OSError as failure:
        raise ModelSourceError(f"{model_id}: cannot be checked: {failure.strerror or failure}") from failure
    return path


def remove(model_id: str, *, root: Path | None = None) -> int:
    """Remove a model's files from this node; gives the bytes freed. A ``path`` source's file is left alone.

    Raises:
        ModelSourceError: another process works on the model, or the files cannot be removed.
    """
    freed = 0
    try:
        for place in _places(model_folder(model_id, root)):
            with locked(place, lambda: _refuse(model_id)):
                freed += _bytes_in(place)
                place.manifest.unlink(missing_ok=True)
                place.file.unlink(missing_ok=True)
                place.discard_download()
    except OSError as failure:
        raise ModelSourceError(f"{model_id}: cannot be removed: {failure.strerror or failure}") from failure
    return freed


def _refuse(model_id: str) -> None:
    raise ModelSourceError(f"{model_id}: another process is fetching it")


def _first_there(place: Place, weights: WeightsSettings) -> Path:
    """The first place that has a file: the model's own folder, then the ``path`` sources in order."""
    paths = [place.file, *(user_path(source.path) for source in weights.sources if source.path)]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(place.file)
    return found


def _places(folder: Path) -> Iterator[Place]:
    """The places in a model's folder that hold something. Every fetch leaves a lock file, which names its file."""
    for lock in sorted(folder.glob("*.lock")):
        place = Place(folder, lock.name.removesuffix(".lock"))
        if any(path.exists() for path in (place.file, place.manifest, place.part, place.wheels)):
            yield place


def _seen(model_id: str, place: Place) -> LocalFile:
    manifest = read_manifest(place)
    path = place.folder / manifest.file if manifest else place.file
    state: State
    if manifest and manifest.describes(path):
        state = "ready"
    elif path.exists():
        state = "unchecked"
    elif place.part.exists() or place.wheels.exists():
        state = "partial"
    else:
        state = "missing"
    size = path.stat().st_size if path.exists() else _bytes_in(place)
    return LocalFile(model_id, place.name, path, size, state, manifest.source if manifest else None)


def _bytes_in(place: Place) -> int:
    files = [place.file, place.part, *place.wheels.glob("*.whl")]
    return sum(file.stat().st_size for file in files if file.exists())
