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

#: A slot with more than this stays in the cache: copying it would hold the others up for more than 50 ms.
MOST_BYTES = 64 * 1024 * 1024


class Pool:
    """The cache of ``slots``. For the engine's thread; only ``bytes_aside`` may be read from others.

    Args:
        aside: the most tokens that are held beside the cache; what goes beyond stays in it.
    """

    def __init__(self, context: Context, slots: Items[Slot], aside: int) -> None:
        self._context = context
        self._slots = slots
        self._aside = aside
        self._most = MOST_BYTES // max(1, context.token_bytes)
        self._settled = True

    @property
    def bytes_aside(self) -> int:
        """Memory of what idle slots hold beside the cache."""
        return sum(len(state) for slot in self._slots if (state := slot.aside) is not None)

    def begin(self, sequence: Sequence, found: Placement) -> int:
        """Make the slot ready in which ``sequence`` is to run; gives how many of its tokens are there."""
        source, target, length = found.source, found.target, found.length
        if source is not target:
            self._context.cut(target.number, 0)
        if length and source.aside is not None and not self._context.restore(source.number, source.aside):
            length = 0
        if source is target:
            if not (length and self._context.cut(target.number, sequence.position(length))):
                length = 0
                self._context.cut(target.number, 0)
        elif length:
            self._context.share(source.number, target.number, sequence.position(length))
            if source.aside is not None:
                self._context.cut(source.number, 0)
        target.cached, target.aside = array("i"), None
        self._settled = False
        return length

    def vacate(self, slot: Slot) -> None:
        """Make a slot idle; what it holds stays for prompts that begin alike."""
        assert slot.sequence is not None
        slot.cached = slot.sequence.tokens[: slot.sequence.done]
        slot.sequence = None
        self._settled = False

    def put_aside(self) -> None:
        """Take what one idle slot holds out of the cache: one a step, since others wait meanwhile, and the one first
        that was idle longest."""
        if self._settled:
            return
        idle = sorted((slot for slot in self._slots if self._may_move(slot)), key=lambda slot: slot.used)
        state = self._context.save(idle[0].number) if idle else None
        if state is None:
            self._settled = True  # until a sequence begins or ends
            return
        self._context.cut(idle[0].number, 0)
        idle[0].aside = state

    def _may_move(self, slot: Slot) -> bool:
        """Whether a slot is idle, has something in the cache that would be free without it, and fits beside it."""
        if slot.sequence is not None or slot.aside is not None or not slot.cached:
            return False
        held = sum(len(other.cached) for other in self._slots if other.aside is not None)
        if len(slot.cached) > min(self._aside - held, self._most):
            return False
        running = (other for other in self._slots if other.sequence is not None and other.adapter == slot.adapter)
        return not any(2 * other.shared_with(slot.cached) > len(slot.cached) for other in running)

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
