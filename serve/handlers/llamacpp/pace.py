"""How many prompt tokens may join a step while other sequences wait for it."""

from __future__ import annotations

from serve.handlers.rate import Speed

#: Attention on processors goes through so many rows of a batch together, and one by one through fewer, which takes
#: five to ten times as long a row over a long context (``GGML_FA_TILE_Q`` of ggml-cpu/common.h).
TILE = 64
#: Prompts get on by this many tokens a step, however slow the machine is.
SMALLEST_CHUNK = 16


class Pace:
    """The speed of prompts in the steps so far: in all of them, in those with a tile of rows, in those with less."""

    def __init__(self) -> None:
        self._all, self._tiled, self._small = Speed(), Speed(), Speed()

    @property
    def per_second(self) -> float:
        """Prompt tokens a second of busy time; 0 before the first measurement."""
        return self._all.per_second

    def add(self, count: int, rows: int, seconds: float) -> None:
        """Take a step that processed ``count`` prompt tokens among ``rows`` in all."""
        for speed in (self._all, self._tiled if rows >= TILE else self._small):
            speed.add(count, seconds)

    def limit(self, most: int, pause: float) -> int:
        """How many prompt tokens may join a step.

        Args:
            most: the largest number wanted.
            pause: seconds that they may take. A tile is taken all the same where fewer rows would take as long.
        """
        tiled = self._tiled.per_second
        if not tiled or pause * tiled >= TILE:
            return min(most, max(TILE, int(pause * tiled)))
        small = self._small.per_second or tiled
        few = max(SMALLEST_CHUNK, min(TILE - 1, int(pause * small)))
        return min(most, TILE if TILE / tiled <= few / small else few)
