"""Events a second over the last seconds, counted by one thread and read by another."""

from __future__ import annotations

#: Seconds that the average is over.
WINDOW = 10


class Rate:
    """Counts in one bucket a second; each is one list element, so that a reader sees whole ones."""

    def __init__(self) -> None:
        self._buckets = [(-1, 0)] * (WINDOW + 1)

    def add(self, count: int, now: float) -> None:
        """Count ``count`` events at ``now``, in seconds of a clock that only goes forward."""
        second = int(now)
        place = second % len(self._buckets)
        stamp, total = self._buckets[place]
        self._buckets[place] = (second, total + count if stamp == second else count)

    def per_second(self, now: float) -> float:
        """The average up to ``now``."""
        return sum(total for stamp, total in self._buckets if now - WINDOW <= stamp <= now) / WINDOW
