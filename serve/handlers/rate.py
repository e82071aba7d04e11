"""How quickly an engine works, counted by one thread and read by another."""

from __future__ import annotations

#: Seconds that the average is over.
WINDOW = 10


class Rate:
    """Events a second, busy or not. Counts in one bucket a second; each is one list element, so that a reader sees
    whole ones."""

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


#: What the newest measurement weighs in the average: slower ones more, since others wait for a step that takes longer
#: than expected. A long prompt becomes slower with each of its steps, by attention to all that came before.
_QUICKER, _SLOWER = 0.2, 0.5
#: Smaller counts say more about the overhead of a step than about the speed.
_FEWEST = 16


class Speed:
    """Tokens a second of busy time, by a moving average of the seconds a token took in each step."""

    def __init__(self) -> None:
        self._seconds = 0.0

    @property
    def per_second(self) -> float:
        """The average; 0 before the first measurement."""
        return 1 / self._seconds if self._seconds else 0.0

    def add(self, count: int, seconds: float) -> None:
        """Take a step that processed ``count`` tokens in ``seconds``."""
        if count >= _FEWEST and seconds > 0:
            newest = seconds / count
            weight = _SLOWER if newest > self._seconds else _QUICKER
            self._seconds = newest if not self._seconds else self._seconds + weight * (newest - self._seconds)
