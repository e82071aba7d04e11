"""Rows with one id: the version that changed last is kept. By files of numbers, so that memory stays flat."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.dataset.curate.noted import PLACE, note_lines, places_of
from train.dataset.curate.shards import Shard
from train.dataset.rows import Row

_ID = np.dtype([("high", "<u8"), ("low", "<u8"), ("changed", "<f8")])
#: Rows whose ids are compared at a time; about 100 bytes each.
_AT_A_TIME = 2_000_000


def entry(row: Row) -> tuple[int, int, float]:
    """What an index holds of a row: a 128-bit hash of its id, and when it changed last."""
    digest = hashlib.blake2b(row.id.encode(), digest_size=16).digest()
    changed = row.last_changed.timestamp() if row.last_changed else float("-inf")
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:]), changed


def save_index(shard: Path, entries: list[tuple[int, int, float]]) -> None:
    """Write the index that belongs to a shard."""
    np.save(_index(str(shard)), np.array(entries, dtype=_ID))


def find_repeats(shards: Sequence[Shard], folder: Path) -> int:
    """Find rows whose id another row has that changed later, or, where none did, that comes first.

    They are noted in ``folder`` for ``NotedLines``; gives how many they are.
    """
    buckets = sum(shard.rows for shard in shards) // _AT_A_TIME + 1
    count = 0
    for bucket in range(buckets):
        ids, places = _bucket(shards, bucket, buckets)
        # The last key counts most; rows of one id lie together, the one to keep first.
        order = np.lexsort((places["line"], places["shard"], -ids["changed"], ids["low"], ids["high"]))
        ids = ids[order]
        again = np.flatnonzero((ids["high"][1:] == ids["high"][:-1]) & (ids["low"][1:] == ids["low"][:-1])) + 1
        note_lines(folder, bucket, places[order[again]])
        count += len(again)
    return count


def _bucket(shards: Sequence[Shard], bucket: int, buckets: int) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
    """Those entries of all indexes whose hash falls into a bucket, and their places."""
    ids = [np.empty(0, _ID)]
    places = [np.empty(0, PLACE)]
    for shard in shards:
        index = np.load(_index(shard.path))
        lines = np.flatnonzero(index["high"] % np.uint64(buckets) == bucket)
        ids.append(index[lines])
        places.append(places_of(shard.number, lines))
    return np.concatenate(ids), np.concatenate(places)


def _index(shard: str) -> str:
    return f"{shard}.npy"
