"""Whose turn it is: one decode runs with one adapter, so the sequences of several take turns.

llama.cpp's adapters act on a whole context. To change them costs a new layout of the graph: SmolLM2-135M on 2 cores,
adapter of rank 32 on all layers, 12 ms a token with it on and 15 ms when it is switched at every token. A turn is
therefore some decodes long where these are quick, and one where they are slow.
"""

from __future__ import annotations

from collections.abc import Collection

#: A turn ends with the first decode that begins later than this. Others wait so long for their next token.
TURN_SECONDS = 0.05


class Turns:
    """Gives each adapter that has something to run a turn, in a fixed order; 0 stands for the model alone."""

    def __init__(self) -> None:
        self._order: list[int] = []  # whoever had the last turn is last
        self._until = 0.0

    def next(self, runnable: Collection[int], now: float) -> int:
        """The adapter with which the next decode runs.

        Args:
            runnable: the adapters that have something to run; may be empty, and may name one many times.
            now: seconds on a clock that only goes forward.
        """
        holder = self._order[-1] if self._order else 0
        if holder in runnable and (now < self._until or all(number == holder for number in runnable)):
            return holder
        self._order += sorted(set(runnable) - set(self._order))
        chosen = next((number for number in self._order if number in runnable), holder)
        if chosen in self._order:
            self._order.remove(chosen)
            self._order.append(chosen)
        self._until = now + TURN_SECONDS
        return chosen

    def forget(self, number: int) -> None:
        """Drop an adapter that will not run again."""
        if number in self._order:
            self._order.remove(number)
