"""Stop strings in text that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


def overlap(text: str, marker: str) -> int:
    """How many characters at the end of ``text`` could be the beginning of ``marker``, short of all of it."""
    for length in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0


class StopMatcher:
    """Passes text on up to the first stop string, and holds back what could yet become one.

    Where several stop strings are in the text, the one that ends first counts, and of those that end together the
    longest: what a reader of single characters would see, however the text is cut.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """The text that is now known to stand before any stop string."""
        if self.found or not self._stops:
            return "" if self.found else text
        text = self._held + text
        ends = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if ends:
            self.found = True
            self._held = ""
            return text[: min(ends)[1]]
        held = max(overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held
