"""Packing: nothing is lost, nothing is too long, little is empty, and always the same."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from train.dataset.formats.packing import pack


def sequences(*sizes: int) -> list[list[int]]:
    """Sequences that say their number in each token."""
    return [[number] * size for number, size in enumerate(sizes)]


def numbers(*sizes: int, capacity: int) -> list[list[int]]:
    return [[one[0] for one in found] for found in pack(sequences(*sizes), capacity)]


def test_each_goes_where_it_leaves_least_room() -> None:
    # 7 and 5 open packs; 4 goes to the 5, and 3 fills the first.
    assert numbers(5, 3, 4, 7, capacity=10) == [[0, 2], [1, 3]]


@given(st.lists(st.integers(1, 60), max_size=60), st.integers(1, 10))
def test_every_sequence_is_in_one_pack_and_no_pack_is_too_full(sizes: list[int], window: int) -> None:
    found = list(pack(sequences(*sizes), 50, window))
    assert sorted(one[0] for each in found for one in each) == list(range(len(sizes)))
    assert all(sum(map(len, each)) <= 50 or len(each) == 1 for each in found)


def test_a_window_is_all_that_is_held() -> None:
    taken: list[int] = []

    def stream() -> Iterator[list[int]]:
        for one in sequences(*[3] * 100):
            taken.append(one[0])
            yield one

    first = next(pack(stream(), 9, window=10))
    assert [one[0] for one in first] == [0, 1, 2]
    assert len(taken) == 10


def test_packs_of_chats_are_nearly_full() -> None:
    draw = random.Random(1)
    sizes = [min(1024, int(draw.lognormvariate(5.5, 0.8)) + 1) for _ in range(4000)]
    assert sum(sizes) / (1024 * len(numbers(*sizes, capacity=1024))) > 0.99


def test_nothing_packs_to_nothing() -> None:
    assert numbers(capacity=10) == []
