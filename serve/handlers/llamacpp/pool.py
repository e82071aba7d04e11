"""What the slots hold in the cache that they share, and what idle ones hold beside it.

Every token that is decoded is held against every cell of the cache up to the last one in use, other sequences' too:
these are masked, but not for nothing. SmolLM2-135M on 2 cores, one stream: 120 tokens/s with nothing else in the
cache, 112 with 15 idle slots of 110 tokens, 86 with 15 of 1,000. So idle slots are emptied while others run, and what
they held is copied back when a prompt begins alike.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from collections.abc import Sequence as Items

from serve.handlers.llamacpp.context import Context
from serve.handlers.llamacpp.sequence import Sequence
from serve.handlers.llamacpp.slots import Placement, Slot


class Pool:
    """The cache of ``slots``. For the engine's thread.

    Args:
        aside: the most tokens that are held beside the cache; what goes beyond stays in it.
    """

    def __init__(self, context: Context, slots: Items[Slot], aside: int) -> None:
        self._context = context
        self._slots = slots
        self._aside = aside

    @property
    def bytes_aside(self) -> int:
        """Memory of what idle slots hold beside the cache."""
        return sum(len(state) for slot in self._slots if (state := slot.aside) is not None)

    def begin(self, sequence: Sequence, found: Placement) -> int:
        """Make the slot ready in which ``sequence`` is to run; gives how many of its tokens are there."""
        source, target, length = found.source, found.target, found.length
        state = source.aside
        if state is not None and length and not self._context.restore(source.number, state):
            self.forget([source])
            length = 0
        if source is target:
            if length and not self._context.cut(target.number, sequence.position(length)):
                length = 0
        elif length:
            self._context.cut(target.number, 0)
            self._context.share(source.number, target.number, sequence.position(length))
            if state is not None:
                self._context.cut(source.number, 0)
        if not length:
            self._context.cut(target.number, 0)
        target.cached, target.aside = array("i"), None
        return length

    def put_aside(self) -> None:
        """Empty the slots that are idle, those last that were used last, as far as there is room beside the cache."""
        idle = [slot for slot in self._slots if slot.sequence is None and slot.cached]
        held = sum(len(slot.cached) for slot in idle if slot.aside is not None)
        for slot in sorted(idle, key=lambda slot: slot.used):
            if slot.aside is None and held + len(slot.cached) <= self._aside:
                slot.aside = self._context.save(slot.number)
                self._context.cut(slot.number, 0)
                held += len(slot.cached)

    def forget(self, slots: Iterable[Slot]) -> None:
        """Empty slots, and keep nothing of what they held."""
        for slot in slots:
            self._context.cut(slot.number, 0)
            slot.cached, slot.aside = array("i"), None

    def forget_idle(self) -> bool:
        """Make room by what idle slots hold in the cache; whether they held anything."""
        idle = [slot for slot in self._slots if slot.sequence is None and slot.cached and slot.aside is None]
        self.forget(idle)
        return bool(idle)

    def clear(self) -> None:
        """Empty all of the cache: what it holds is not known."""
        self._context.clear()
        for slot in self._slots:
            if slot.aside is None:
                slot.cached = array("i")
