"""Memory does not grow with the input, but for what repeats."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from tests.unit.train.dataset.duplicates.samples import chat, prose, write
from train.dataset.duplicates import DuplicateSettings, exact, find, find_duplicates, pieces, verify

ROWS = 200
MEGABYTE = 1 << 20


def peak(folder: Path, rows: int) -> int:
    """The most bytes at once that finding duplicates among so many rows takes."""
    folder.mkdir()
    path = write(folder / "a.jsonl", [chat(str(number), prose(number, 60)) for number in range(rows)])
    gc.collect()
    tracemalloc.start()
    found = find_duplicates([path], DuplicateSettings(), folder / "work")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.dropped == 0
    return most


@pytest.mark.timeout(120)
def test_ten_times_as_many_rows_take_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 50_000)
    monkeypatch.setattr(exact, "RANGE_ROWS", 400)
    for module in (find, verify):
        monkeypatch.setattr(module, "PART_ROWS", 400)
    small, large = peak(tmp_path / "small", ROWS), peak(tmp_path / "large", 10 * ROWS)
    assert large < small + MEGABYTE // 4
