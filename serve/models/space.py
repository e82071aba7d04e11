"""Whether what is still to come fits on the disk, asked before anything is fetched."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from serve.models.errors import ModelSourceError, SourceFailed
from serve.models.manifest import ready_manifest
from serve.models.place import Place, root_or_default, user_path
from serve.models.progress import LogReporter, size_text
from serve.models.sources import download_of
from serve.models.sources.hub import HubDownload
from serve.models.wanted import WantedFile, listed
from serve.settings.weights import FolderSource, Source, Weights

#: Left free on the disk, in bytes, for whatever else writes to it meanwhile.
SPACE_MARGIN = 64 * 1024 * 1024


def require_space_for(models: Mapping[str, Weights], *, root: Path | None = None) -> None:
    """Raise ``ModelSourceError``, with the numbers, when what these models still need does not fit on the disk.

    Of a model with several sources the one that needs least is counted; each source is asked again in its turn.
    """
    needs = {model_id: bytes_needed(model_id, weights, root) for model_id, weights in models.items()}
    folder = root_or_default(root).absolute()
    try:
        require_space(folder, sum(needs.values()))
    except SourceFailed as failure:
        each = ", ".join(f"{model_id} {size_text(size)}" for model_id, size in needs.items() if size)
        raise ModelSourceError(f"{failure} (still to come: {each}); nothing was fetched") from failure


def require_space(folder: Path, needed: int) -> None:
    """Raise ``SourceFailed`` when ``needed`` bytes do not fit in ``folder``, which need not be there yet."""
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if needed and free < needed + SPACE_MARGIN:
        raise SourceFailed(
            f"not enough disk space: {size_text(needed + SPACE_MARGIN)} needed in {folder}, {size_text(free)} free"
        )


def bytes_here(place: Place, file: WantedFile) -> int:
    """Bytes of a file that an earlier download has left; those that are too many are thrown away."""
    part = place.part(file)
    size = part.stat().st_size if part.is_file() else 0
    return size if size <= file.bytes else 0


def bytes_needed(model_id: str, weights: Weights, root: Path | None) -> int:
    """Least bytes of disk that a model still needs, beside what is here; 0 where no source can say."""
    place = Place.of(model_id, weights.name, root)
    if ready_manifest(place, weights) is not None:
        return 0
    sources: Sequence[Source | FolderSource] = weights.sources
    each = [_needed_by(source, model_id, weights, place) for source in sources]
    return min((size for size in each if size is not None), default=0)


def _needed_by(source: Source | FolderSource, model_id: str, weights: Weights, place: Place) -> int | None:
    """What one source needs; none when it can give nothing now, as far as can be seen."""
    if source.path is not None:
        return 0 if user_path(source.path).exists() else None
    if isinstance(source, FolderSource) and source.gguf is not None:
        # The checkpoint has at least two bytes for each weight, so it is never smaller than the file.
        return bytes_needed(model_id, source.gguf, place.folder.parent) + source.gguf.bytes
    download = download_of(source, place)
    files = listed(weights)
    if files is None:
        assert isinstance(download, HubDownload), "only a hub knows its files"
        try:
            files = download.listing(LogReporter().note)
        except SourceFailed:
            return None  # It is asked again in its turn, and the failure told then.
    missing = [file for file in files if not _seems_here(place, file)]
    left = sum(file.bytes - bytes_here(place, file) for file in missing)
    return left + download.extra_space(sum(file.bytes for file in missing))


def _seems_here(place: Place, file: WantedFile) -> bool:
    path = place.file(file)
    return path.is_file() and path.stat().st_size == file.bytes
