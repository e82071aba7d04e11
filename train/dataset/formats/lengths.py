"""How long things are: counts by length in memory that does not grow with what is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

#: Lengths are exact below this, and have three significant digits above.
_EXACT = 1000


class Lengths:
    """A distribution of lengths.

    Attributes:
        count: how many.
        total: their sum, exact; ``longest`` is exact too.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.longest = 0
        self._counts: Counter[int] = Counter()

    def add(self, length: int) -> None:
        """Count one."""
        self.count += 1
        self.total += length
        self.longest = max(self.longest, length)
        self._counts[_rounded(length)] += 1

    def merge(self, other: Lengths) -> None:
        """Count all of ``other``."""
        self.count += other.count
        self.total += other.total
        self.longest = max(self.longest, other.longest)
        self._counts.update(other._counts)

    @property
    def mean(self) -> float:
        """The average; 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, share: float) -> int:
        """The smallest length that ``share`` percent are not longer than; 0 of nothing."""
        wanted = self.count * share / 100
        seen = 0
        for length in sorted(self._counts):
            seen += self._counts[length]
            if seen >= wanted:
                return min(length, self.longest)
        return self.longest

    def doublings(self) -> dict[int, int]:
        """Counts by length from one power of two to the next: ``{0: 1, 1: 2, 2: 5, 4: 7}``, gaps included."""
        powers = Counter[int]()
        for length, count in self._counts.items():
            powers[_power(length)] += count
        return {power: powers[power] for power in _between(powers)}

    def body(self) -> dict[str, float]:
        """The numbers that reports show."""
        percentiles = {f"p{share}": self.percentile(share) for share in (5, 50, 95, 99)}
        return {
            "count": self.count,
            "total": self.total,
            "mean": round(self.mean, 1),
            **percentiles,
            "longest": self.longest,
        }


def _rounded(length: int) -> int:
    unit = 10 ** max(0, len(str(length)) - len(str(_EXACT)) + 1)
    return length if length < _EXACT else (length + unit // 2) // unit * unit


def _power(length: int) -> int:
    """The largest power of two that is not more; 0 for 0."""
    return 1 << (length.bit_length() - 1) if length else 0


def _between(powers: Mapping[int, int]) -> Iterator[int]:
    if not powers:
        return
    power, last = min(powers), max(powers)
    while power <= last:
        yield power
        power = power * 2 or 1
