"""What of a mapped file is in this process's memory.

llama.cpp reads all of a file that it maps. Where it keeps weights in an order of its own (AMX, repacked types), they
are in memory twice then; the rows of an embedding table are there before a prompt has their tokens.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def let_go(path: Path) -> int:
    """Take the pages of a GGUF file, and of the other pieces in its folder, out of this process's memory, and give
    how many bytes are mapped. What is used comes back from the system's page cache. On Linux only."""
    if sys.platform != "linux":
        return 0
    folder, advise, mapped = path.resolve().parent, ctypes.CDLL(None).madvise, 0
    for line in _MAPS.read_text(errors="surrogateescape").splitlines():
        addresses, _, _, _, _, *name = line.split(maxsplit=5)
        if not (name and name[0].endswith(".gguf") and Path(name[0]).parent == folder):
            continue
        begin, end = (int(address, 16) for address in addresses.split("-"))
        advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)
        mapped += end - begin
    return mapped
