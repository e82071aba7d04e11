"""Whether what is still to come fits on the disk, asked before anything is fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

from serve.models.errors import ModelSourceError
from serve.models.place import Place
from serve.models.progress import size_text
from serve.models.wanted import WantedFile

#: Left free on the disk, in bytes, for whatever else writes to it meanwhile.
SPACE_MARGIN = 64 * 1024 * 1024


def bytes_here(place: Place, file: WantedFile) -> int:
    """Bytes of a file that an earlier download has left; those that are too many are thrown away."""
    part = place.part(file)
    size = part.stat().st_size if part.is_file() else 0
    return size if size <= file.bytes else 0


def require_space(folder: Path, needed: int) -> None:
    """Raise ``ModelSourceError``, in words without a model's name, when ``needed`` bytes do not fit in ``folder``."""
    free = shutil.disk_usage(folder).free
    if needed and free < needed + SPACE_MARGIN:
        raise ModelSourceError(
            f"not enough disk space: {size_text(needed + SPACE_MARGIN)} needed in {folder}, {size_text(free)} free"
        )
