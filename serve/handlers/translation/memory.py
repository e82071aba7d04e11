"""A translation memory: which of its entries are nearest to a text."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from heapq import nlargest

from serve.protocol.translation import Pair

#: Less alike than this, an entry says nothing about a text.
_LEAST = 0.5
#: So many candidates by shared trigrams are compared letter by letter.
_COMPARED = 24


class Memory:
    """The entries of one request."""

    def __init__(self, entries: Sequence[Pair]) -> None:
        self._entries = [(entry, _trigrams(entry.source), len(_key(entry.source))) for entry in entries]
        self._exact = {_key(entry.source): entry for entry in entries}

    def exact(self, text: str) -> Pair | None:
        """The entry whose source is ``text``, case and space aside."""
        return self._exact.get(_key(text))

    def nearest(self, text: str, count: int) -> list[Pair]:
        """The ``count`` entries most like ``text``, the likest last, where a model looks most."""
        wanted, size = _trigrams(text), len(_key(text))
        # What is of another length by more than this cannot be as much alike.
        alike = [
            one
            for one in self._entries
            if size * _LEAST <= (2 - _LEAST) * one[2] and one[2] * _LEAST <= (2 - _LEAST) * size
        ]
        shared = nlargest(_COMPARED, alike, key=lambda one: _overlap(wanted, one[1]))
        scored = [(SequenceMatcher(None, _key(text), _key(entry.source)).ratio(), entry) for entry, _, _ in shared]
        best = nlargest(count, scored, key=lambda one: one[0])
        return [entry for score, entry in reversed(best) if score >= _LEAST]


def _key(text: str) -> str:
    return " ".join(text.casefold().split())


def _trigrams(text: str) -> frozenset[str]:
    padded = f"  {_key(text)} "
    return frozenset(padded[index : index + 3] for index in range(len(padded) - 2))


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    both = len(one & other)
    return both / ((len(one) + len(other) - both) or 1)
