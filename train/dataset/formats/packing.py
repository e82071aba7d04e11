"""Several sequences in one row of a batch, so that little of it is padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import TypeVar

S = TypeVar("S", bound=Sized)


def pack(sequences: Iterable[S], capacity: int, window: int = 2048) -> Iterator[list[S]]:
    """Best-fit decreasing (https://en.wikipedia.org/wiki/Best-fit_bin_packing) over a window of the stream at a time.

    The same sequences in the same order give the same packs. Packs come in the order of their first sequence, and
    sequences in a pack in the order in which they came.

    Args:
        sequences: their length is in tokens.
        capacity: tokens of a pack; a sequence that is longer gets a pack of its own.
        window: how many sequences are held in memory.
    """
    stream = iter(sequences)
    while held := list(islice(stream, window)):
        yield from _packed(held, capacity)


def _packed(held: list[S], capacity: int) -> Iterator[list[S]]:
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # What is left in each pack, and its number; rising.
    for number in sorted(range(len(held)), key=lambda number: -len(held[number])):
        size = len(held[number])
        # The first in this order that has enough is the one that will be fullest.
        place = bisect_left(room, (size, 0))
        if place == len(room):
            packs.append([])
            left, chosen = capacity, len(packs) - 1
        else:
            left, chosen = room.pop(place)
        packs[chosen].append(number)
        insort(room, (left - size, chosen))
    for numbers in sorted(map(sorted, packs)):
        yield [held[number] for number in numbers]
