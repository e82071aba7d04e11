"""Temporary folders of benchmarks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import say


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder for the servers' files; kept when something goes wrong, because its logs say what."""
    folder = Path(tempfile.mkdtemp(prefix="groupqwen-benchmark-"))
    try:
        yield folder
    except Exception:
        say(f"the servers' logs are in {folder}")
        raise
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
