"""Pages of mapped files."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from serve.handlers.llamacpp.mapping import let_go

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is mapped")

SIZE = 1 << 22


def resident(path: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    found = 0
    for line in lines:
        if line.endswith(str(path)):
            found += next(int(more.split()[1]) * 1024 for more in lines if more.startswith("Rss:"))
    return found


def mapped(path: Path) -> mmap.mmap:
    path.write_bytes(b"weights" + bytes(SIZE - 7))
    with path.open("rb") as file:
        found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert sum(found[::4096]) == ord("w")
    return found


def test_the_pages_of_all_pieces_leave_the_memory_and_come_back_when_they_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with ö"
    folder.mkdir()
    paths = [folder / "m-00001-of-00002.gguf", folder / "m-00002-of-00002.gguf"]
    files = [mapped(path) for path in paths]
    assert [resident(path) for path in paths] == [SIZE, SIZE]
    link = tmp_path / "link.gguf"
    link.symlink_to(paths[0])
    assert let_go(link) == 2 * SIZE
    assert [resident(path) for path in paths] == [0, 0]
    assert all(file[:7] == b"weights" for file in files)
    assert resident(paths[0]) > 0


def test_other_files_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    others = [tmp_path / "notes.txt", tmp_path / "other" / "m.gguf"]
    files = [mapped(path) for path in others]
    assert let_go(tmp_path / "m.gguf") == 0
    assert [resident(path) for path in others] == [SIZE, SIZE]
    del files
