"""Which slot of the context a sequence gets, what it finds there, and how prompts share a batch."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from serve.handlers.llamacpp.context import Batch
from serve.handlers.llamacpp.sequence import Sequence

#: A prompt waits for another one in progress when that saves it more tokens than this.
WORTH_WAITING = 32


@dataclass(slots=True, eq=False)
class Slot:
    """One of the context's sequences.

    Attributes:
        number: llama.cpp's id of it, and its place among the slots.
        sequence: what runs in it, if anything.
        cached: tokens that a finished sequence left, in the cache or beside it; none while one runs.
        used: the step at which it was last used.
        adapter: number of the adapter with which its cache was computed; no other may use it.
        aside: what the cache held of ``cached``, where it was taken out.
    """

    number: int
    sequence: Sequence | None = None
    cached: array[int] = field(default_factory=lambda: array("i"))
    used: int = 0
    adapter: int = 0
    aside: NDArray[np.uint8] | None = None

    @property
    def held(self) -> int:
        """How many tokens it has in the cache."""
        sequence = self.sequence  # The engine's thread may take it away meanwhile.
        if sequence is None:
            return 0 if self.aside is not None else len(self.cached)
        return sequence.done

    def shared_with(self, tokens: array[int]) -> int:
        """How many of ``tokens``, from the first, this slot holds."""
        if self.sequence is None:
            return common_prefix(self.cached, tokens)
        return min(common_prefix(self.sequence.tokens, tokens), self.sequence.done)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a sequence goes: into ``target``, beginning with ``length`` tokens of what ``source`` holds."""

    target: Slot
    source: Slot
    length: int


def common_prefix(one: array[int], other: array[int]) -> int:
    """How many tokens both begin with."""
    count = min(len(one), len(other))
    if count == 0:
        return 0
    differs = np.frombuffer(one, np.int32, count) != np.frombuffer(other, np.int32, count)
    first = int(differs.argmax())
    return first if differs[first] else count


def place(sequence: Sequence, slots: Items[Slot], *, shares: bool, across_requests: bool) -> Placement | None:
    """The idle slot for ``sequence``, or none.

    The longest prefix wins, in an idle slot or a busy one, and of equal ones one that is in the cache. An idle slot
    is taken over when most of what it holds is of use; otherwise the prefix is shared into the slot that was idle
    longest, and what it leaves stays for others.

    Args:
        shares: whether the model's cache can be shared at all.
        across_requests: whether the cache of other requests may be used.
    """
    idle = [slot for slot in slots if slot.sequence is None]
    if not idle:
        return None
    oldest = min(idle, key=lambda slot: (len(slot.cached) > 0, slot.used))
    sources = [
        slot
        for slot in slots
        if shares and slot.adapter == sequence.adapter_number and (across_requests or _is_sibling(slot, sequence))
    ]
    found = [
        (slot.shared_with(sequence.tokens), slot.aside is None, slot.sequence is None, slot.number)
        for slot in sources
    ]
    shared, *_, number = max(found, default=(0, True, True, oldest.number))
    # The last token has to be decoded, whatever is cached: its logits are wanted.
    length = sequence.whole(min(shared, len(sequence.tokens) - 1))
    if length == 0:
        return Placement(oldest, oldest, 0)
    best = slots[number]
    takes_over = best.sequence is None and 2 * length >= len(best.cached)
    return Placement(best if takes_over else oldest, best, length)


def should_wait(sequence: Sequence, running: Iterable[Sequence], *, across_requests: bool) -> bool:
    """Whether a prompt in progress will soon hold much of ``sequence``'s own, so that it is processed once: the first
    of a request's choices does so for the others.

    Args:
        across_requests: whether the cache of other requests may be used.
    """
    for other in running:
        if other.generated or other.remaining <= 1 or other.adapter_number != sequence.adapter_number:
            continue
        if other.stream is sequence.stream:
            return True
        if across_requests and common_prefix(other.tokens, sequence.tokens) > other.done + WORTH_WAITING:
            return True
    return False


def divide(remaining: Items[int], budget: int) -> list[int]:
    """How many tokens each prompt may put into a batch of ``budget``.

    Half of the budget is for the first, which waits longest, so that it gets on; the rest goes to the shortest, so
    that short prompts need not wait for long ones.
    """
    shares = [0] * len(remaining)
    if not remaining:
        return shares
    shares[0] = min(remaining[0], (budget + 1) // 2)
    budget -= shares[0]
    for place in sorted(range(len(remaining)), key=lambda place: remaining[place] - shares[place]):
        more = min(remaining[place] - shares[place], budget)
        shares[place] += more
        budget -= more
    return shares


def _is_sibling(slot: Slot, sequence: Sequence) -> bool:
    return slot.sequence is not None and slot.sequence.stream is sequence.stream


#: Slots with what runs in them.
Busy: TypeAlias = Items[tuple[Slot, Sequence]]


def fill(batch: Batch, busy: Busy, limit: int) -> list[tuple[Sequence, int, int]]:
    """Fill ``batch`` with the next tokens of all that generate, and with at most ``limit`` tokens of prompts: each
    sequence with how many tokens it has there, and the row of the last."""
    batch.clear()
    generating = [(slot, sequence) for slot, sequence in busy if sequence.generates]
    prompting = sorted(
        ((slot, sequence) for slot, sequence in busy if not sequence.generates),
        key=lambda pair: pair[0].used,
    )
    # Several prompts get their first tokens one after the other.
    budget = min(limit, batch.capacity - len(generating))
    shares = divide([sequence.words for _, sequence in prompting], budget)
    rows = []
    for (slot, sequence), count in zip([*generating, *prompting], [1] * len(generating) + shares, strict=True):
        if count:
            whole = count == sequence.remaining
            position = sequence.position(sequence.done)
            row = batch.add(slot.number, sequence.tokens, sequence.done, count, output=whole, position=position)
            rows.append((sequence, count, row))
    return rows
