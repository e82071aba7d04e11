"""What a config says of a file or a folder that is already here: its names, sizes and hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from serve.models.errors import ModelSourceError
from serve.models.place import files_in, user_path


def describe(path: str) -> dict[str, Any]:
    """The ``weights`` block of a file or folder, with itself as the only source; hidden folders are left out.

    Raises:
        ModelSourceError: there is no such file, no file in the folder, or it cannot be read.
    """
    own = user_path(path)
    try:
        if own.is_dir():
            inner = sorted((file.relative_to(own) for file in files_in(own)), key=str)
            shown = [file for file in inner if not any(step.startswith(".") for step in file.parts[:-1])]
            if not shown:
                raise ModelSourceError(f"{own}: there is no file in it")
            files = [{"file": file.as_posix(), **_measured(own / file)} for file in shown]
            return {"folder": own.name, "files": files, "sources": [{"path": str(own)}]}
        return {"file": own.name, **_measured(own), "sources": [{"path": str(own)}]}
    except OSError as failure:
        raise ModelSourceError(f"{own}: {failure.strerror}") from failure


def _measured(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
