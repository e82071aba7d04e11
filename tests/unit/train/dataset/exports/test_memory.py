"""Memory does not grow with the input."""

from __future__ import annotations

import gc
import json
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from tests.unit.train.dataset.exports.samples import chatgpt_chat
from train.dataset.disk import whole_file
from train.dataset.exports import Report, read_file, write_rows

CHAT_BYTES = 40_000
MEGABYTE = 1 << 20


def export(path: Path, megabytes: int) -> int:
    """An export of so much JSON; gives the number of its conversations."""
    count = megabytes * MEGABYTE // CHAT_BYTES
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("c.json", "w") as member:
        for number in range(count):
            chat = chatgpt_chat(f"c{number}", said=f"{number} is a number. " * (CHAT_BYTES // 20))
            member.write(b"[" if number == 0 else b", ")
            member.write(json.dumps(chat).encode())
        member.write(b"]")
    return count


def peak(path: Path, out: Path) -> tuple[int, int]:
    """The most bytes of Python's own that reading takes at once, and the rows written."""
    report = Report()
    gc.collect()
    tracemalloc.start()
    with whole_file(out) as file:
        write_rows(read_file(str(path)), file, report)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most, report.written


@pytest.mark.timeout(120)
def test_an_export_ten_times_as_large_takes_no_more_memory(tmp_path: Path) -> None:
    counts = [export(tmp_path / f"{megabytes}.zip", megabytes) for megabytes in (1, 10)]
    small, large = (peak(tmp_path / f"{megabytes}.zip", tmp_path / "out") for megabytes in (1, 10))
    assert [small[1], large[1]] == counts
    assert large[0] < small[0] + MEGABYTE
