"""What is put beside the cache and what comes back, over a cache that only notes who holds how many tokens."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from serve.handlers.llamacpp.adapters import Adapter
from serve.handlers.llamacpp.context import Context
from serve.handlers.llamacpp.pool import MOST_BYTES, Pool
from serve.handlers.llamacpp.slots import Placement, Slot
from tests.unit.handlers.llamacpp_sequences import Numbered, sequence


class Cells:
    """A context of which only the lengths of its sequences are there; a saved one is its length, a byte a token."""

    def __init__(self, token_bytes: int = 1) -> None:
        self.held: dict[int, int] = {}
        self.token_bytes = token_bytes
        self.full = self.broken = False

    def cut(self, sequence: int, length: int) -> bool:
        self.held[sequence] = min(self.held.get(sequence, 0), length)
        return True

    def share(self, source: int, target: int, length: int) -> None:
        assert self.held[source] >= length and not self.held.get(target)
        self.held[target] = length

    def save(self, sequence: int) -> NDArray[np.uint8] | None:
        return None if self.broken else np.zeros(self.held[sequence], np.uint8)

    def restore(self, sequence: int, state: NDArray[np.uint8]) -> bool:
        self.held[sequence] = 0 if self.full else len(state)
        return not self.full

    def clear(self) -> None:
        self.held.clear()


class Group:
    """A pool of four slots."""

    def __init__(self, aside: int = 100, token_bytes: int = 1) -> None:
        self.cells = Cells(token_bytes)
        self.slots = [Slot(number) for number in range(4)]
        self.pool = Pool(cast(Context, self.cells), self.slots, aside)
        self._step = 0

    def run(self, number: int, *tokens: int, adapter: Adapter | None = None) -> Slot:
        """Let a sequence run in a slot that it fills anew."""
        self._step += 1
        slot = self.slots[number]
        one = sequence(*tokens, done=len(tokens), adapter=adapter)
        self.pool.begin(one, Placement(slot, slot, 0))
        slot.sequence, slot.used, slot.adapter = one, self._step, one.adapter_number
        self.cells.held[number] = len(tokens)
        return slot

    def end(self, *numbers: int) -> None:
        for number in numbers:
            self._step += 1
            self.pool.vacate(self.slots[number])
            self.slots[number].used = self._step

    def idle(self, number: int, *tokens: int, adapter: Adapter | None = None) -> None:
        self.run(number, *tokens, adapter=adapter)
        self.end(number)

    @property
    def aside(self) -> list[int]:
        return [slot.number for slot in self.slots if slot.aside is not None]


def test_one_slot_a_step_is_put_aside_the_one_first_that_was_idle_longest() -> None:
    group = Group()
    group.idle(2, 1, 2, 3)
    group.idle(0, 4, 5)
    group.run(1, 9)
    for expected in ([2], [0, 2], [0, 2]):
        group.pool.put_aside()
        assert group.aside == expected
    assert group.cells.held == {0: 0, 1: 1, 2: 0}
    assert group.pool.bytes_aside == 5


def test_what_goes_beyond_the_room_beside_the_cache_stays_in_it_and_smaller_ones_go() -> None:
    group = Group(aside=4)
    group.idle(0, 1, 2, 3)
    group.idle(1, 4, 5, 6)
    group.idle(2, 7)
    group.run(3, 9)
    for _ in range(4):
        group.pool.put_aside()
    assert group.aside == [0, 2]
    assert group.cells.held[1] == 3


def test_a_slot_whose_copy_would_hold_others_up_stays_in_the_cache() -> None:
    group = Group(token_bytes=MOST_BYTES // 2)
    group.idle(0, 1, 2, 3)
    group.idle(1, 4, 5)
    group.run(3, 9)
    for _ in range(3):
        group.pool.put_aside()
    assert group.aside == [1]


def test_a_slot_that_shares_most_with_a_running_sequence_stays_until_that_ends() -> None:
    group = Group()
    group.idle(0, 1, 2, 3)
    group.run(1, 1, 2, 9)
    group.run(2, 8)
    group.pool.put_aside()
    assert group.aside == []
    group.end(1)
    group.pool.put_aside()
    assert group.aside == [0]


def test_another_adapters_tokens_are_not_shared() -> None:
    group = Group()
    group.idle(0, 1, 2, 3)
    group.run(1, 1, 2, 3, adapter=Numbered(7))
    group.pool.put_aside()
    assert group.aside == [0]


def test_what_cannot_be_saved_stays_in_the_cache() -> None:
    group = Group()
    group.cells.broken = True
    group.idle(0, 1, 2, 3)
    group.run(1, 9)
    group.pool.put_aside()
    assert group.aside == [] and group.cells.held[0] == 3


@pytest.fixture
def put() -> Group:
    """Slot 0 has four tokens aside, slot 1 two; slot 3 runs."""
    group = Group()
    group.idle(0, 1, 2, 3, 4)
    group.idle(1, 5, 6)
    group.run(3, 9)
    group.pool.put_aside()
    group.pool.put_aside()
    assert group.aside == [0, 1]
    return group


def begin(group: Group, target: int, source: int, length: int) -> int:
    one = sequence(*range(1, 9), done=8)
    return group.pool.begin(one, Placement(group.slots[target], group.slots[source], length))


def test_a_sequence_goes_on_in_its_slot_with_what_was_aside(put: Group) -> None:
    assert begin(put, 0, 0, 3) == 3
    assert put.cells.held[0] == 3 and put.aside == [1] and not put.slots[0].cached


def test_a_beginning_is_shared_out_of_what_stays_aside(put: Group) -> None:
    assert begin(put, 2, 0, 2) == 2
    assert put.cells.held[2] == 2 and put.cells.held[0] == 0
    assert put.aside == [0, 1] and list(put.slots[0].cached) == [1, 2, 3, 4]


def test_a_slot_that_is_taken_over_keeps_nothing_aside(put: Group) -> None:
    assert begin(put, 1, 0, 2) == 2
    assert put.aside == [0] and not put.slots[1].cached


@pytest.mark.parametrize("target", [0, 2])
def test_what_finds_no_room_to_come_back_is_computed_anew(put: Group, target: int) -> None:
    put.cells.full = True
    assert begin(put, target, 0, 2) == 0
    assert put.cells.held.get(target, 0) == 0
    assert put.aside == ([1] if target == 0 else [0, 1])


def test_room_is_made_of_what_is_in_the_cache_only(put: Group) -> None:
    assert not put.pool.forget_idle()
    put.idle(2, 7, 7)
    assert put.pool.forget_idle()
    assert put.aside == [0, 1] and not put.slots[2].cached


def test_what_is_aside_outlives_a_cache_that_is_emptied(put: Group) -> None:
    put.end(3)
    put.pool.clear()
    assert put.aside == [0, 1] and not put.slots[3].cached
    assert begin(put, 0, 0, 3) == 3


def test_what_is_forgotten_is_forgotten_beside_the_cache_too(put: Group) -> None:
    put.pool.forget(put.slots[:1])
    assert put.aside == [1] and not put.slots[0].cached and put.pool.bytes_aside == 2
