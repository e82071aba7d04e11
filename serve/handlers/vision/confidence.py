"""How sure a model was of what it wrote, by the probabilities of its tokens."""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from serve.handlers.vision.answers import Entry

Json = dict[str, Any]

#: What an entry says: its numbers and its strings, but for those that are names of fields.
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?|-?\d+(?:\.\d+)?', re.DOTALL)
_DIGITS = 4


class Tokens:
    """The tokens that a text was written in.

    Args:
        text: of an answer.
        logprobs: ``logprobs`` of its choice; none where the model gives none.
    """

    def __init__(self, text: str, logprobs: Json | None) -> None:
        tokens = (logprobs or {}).get("content") or []
        raw = [bytes(one["bytes"]) if one.get("bytes") else one["token"].encode() for one in tokens]
        self._text = text
        self._logprobs = [float(one["logprob"]) for one in tokens]
        self._ends = list(accumulate(map(len, raw)))
        # A thought may stand before the text, and space around it.
        self._start = b"".join(raw).rfind(text.encode())

    def confidence(self, entry: Entry) -> float | None:
        """The geometric mean of the probabilities of an entry's numbers and words, token by token; none where it is
        not known which tokens they are."""
        if self._start < 0 or not self._logprobs:
            return None
        chosen = sorted({token for start, end in _values(self._text, entry) for token in self._covering(start, end)})
        if not chosen:
            return None
        mean = sum(self._logprobs[token] for token in chosen) / len(chosen)
        return round(math.exp(min(mean, 0.0)), _DIGITS)

    def _covering(self, start: int, end: int) -> Sequence[int]:
        """The tokens that have a byte of the text's characters from ``start`` to ``end``."""
        first = self._start + len(self._text[:start].encode())
        last = first + len(self._text[start:end].encode())
        return range(bisect_right(self._ends, first), bisect_left(self._ends, last) + 1)


def _values(text: str, entry: Entry) -> Iterator[tuple[int, int]]:
    for found in _VALUE.finditer(text, entry.start, entry.end):
        if found[2] is not None or found[1] == "":
            continue
        yield found.span(1) if found[1] is not None else found.span()
