"""The models' weights on this node: listed, verified, removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serve.models.errors import ModelSourceError, WrongContent
from serve.models.manifest import FileRecord, checked, known_paths, read_manifest, ready_path, write_manifest
from serve.models.place import Place, bytes_in, locked, model_folder, remove_any, root_or_default
from serve.models.wanted import WantedFile, listed
from serve.settings.weights import FolderSettings, Weights

State = Literal["ready", "unchecked", "partial", "missing"]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One model's file or folder on this node.

    Attributes:
        model_id: the model.
        name: its name in the model's folder.
        path: where it lies, or will lie.
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
    """Every model's weights on this node, in the order of the models' ids."""
    folder = root_or_default(root)
    if not folder.is_dir():
        return []
    places = [(model.name, place) for model in sorted(folder.iterdir()) for place in _places(model)]
    return [_seen(model_id, place) for model_id, place in places]


def verify(model_id: str, weights: Weights, *, root: Path | None = None) -> Path:
    """Hash the model's weights, whatever their manifest says; gives where they lie.

    Wrong weights lose their manifest, so that the next fetch replaces what is wrong. Where only a source knows the
    files, they are held to what was noted of them when they were fetched.

    Raises:
        ModelSourceError: they are not there, they are wrong, or they cannot be read.
    """
    place = Place.of(model_id, weights.name, root)
    try:
        known = read_manifest(place)
        if known is not None and not known.suits(weights):
            known = None
        wanted = [file.wanted for file in known.files] if known else listed(weights)
        path = ready_path(place, weights) or _first_there(place, weights)
        if path is None or wanted is None:
            raise ModelSourceError(f"{model_id}: there is no {_what(weights)} yet; fetch it first")
        with locked(place, lambda: _refuse(model_id)):
            try:
                records = [_checked(path / file.name, file) for file in wanted]
            except WrongContent as failure:
                place.manifest.unlink(missing_ok=True)
                raise ModelSourceError(f"{model_id}: {failure}") from failure
            if known is None:
                write_manifest(place, path, records, "found on disk")
            else:
                write_manifest(place, path, records, known.source, pin=known.pin, made_with=known.made_with)
    except OSError as failure:
        raise ModelSourceError(f"{model_id}: cannot be checked: {failure.strerror or failure}") from failure
    return path


def remove(model_id: str, *, root: Path | None = None) -> int:
    """Remove a model's weights from this node; gives the bytes freed. What a ``path`` source names is left alone.

    Raises:
        ModelSourceError: another process works on the model, or the files cannot be removed.
    """
    freed = 0
    try:
        for place in _places(model_folder(model_id, root)):
            with locked(place, lambda: _refuse(model_id)):
                freed += _bytes_at(place)
                discard(place)
    except OSError as failure:
        raise ModelSourceError(f"{model_id}: cannot be removed: {failure.strerror or failure}") from failure
    return freed


def discard(place: Place) -> None:
    """Remove the weights of a place; the lock must be held."""
    place.manifest.unlink(missing_ok=True)
    remove_any(place.path)
    place.discard_download()


def _checked(path: Path, file: WantedFile) -> FileRecord:
    try:
        return checked(path, file)
    except FileNotFoundError:
        raise WrongContent(f"{path} is missing") from None
    except WrongContent as failure:
        raise WrongContent(f"{path} is not right: {failure}") from failure


def _refuse(model_id: str) -> None:
    raise ModelSourceError(f"{model_id}: another process is fetching it")


def _what(weights: Weights) -> str:
    return "folder" if isinstance(weights, FolderSettings) else "file"


def _first_there(place: Place, weights: Weights) -> Path | None:
    """The first place that has the weights: the model's own folder, then the ``path`` sources in order."""
    return next((path for path in known_paths(place, weights) if path.exists()), None)


def _places(folder: Path) -> Iterator[Place]:
    """The places in a model's folder that hold something. Every fetch leaves a lock file, which names its weights."""
    for lock in sorted(folder.glob("*.lock")):
        place = Place(folder, lock.name.removesuffix(".lock"))
        if any(path.exists() for path in (place.path, place.manifest, place.parts, place.wheels)):
            yield place


def _seen(model_id: str, place: Place) -> LocalFile:
    manifest = read_manifest(place)
    path = place.folder / manifest.path if manifest else place.path
    state: State
    if manifest and manifest.describes(path):
        state = "ready"
    elif place.parts.exists() or place.wheels.exists():
        state = "partial"
    elif path.exists():
        state = "unchecked"
    else:
        state = "missing"
    size = bytes_in(path.resolve()) if path.exists() else 0
    size += bytes_in(place.parts) + bytes_in(place.wheels)
    return LocalFile(model_id, place.name, path, size, state, manifest.source if manifest else None)


def _bytes_at(place: Place) -> int:
    return sum(bytes_in(path) for path in (place.path, place.parts, place.wheels))
