"""A session of review: the next row to look at, what can be done with it, and the way back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from train.dataset.curate.review.decisions import Decisions, Verdict
from train.dataset.rows import Row

#: How many steps can be undone.
MAX_UNDONE = 100


class Review:
    """Goes through the rows on which nothing is decided, one after the other.

    Args:
        rows: all rows; read as far as needed.
        decisions: where decisions go.
    """

    def __init__(self, rows: Iterable[Row], decisions: Decisions) -> None:
        self._rows = iter(rows)
        self._decisions = decisions
        self._behind: deque[tuple[Row, bool]] = deque(maxlen=MAX_UNDONE)
        self._ahead: list[Row] = []
        self._current = self._next()
        self.decided = 0

    @property
    def current(self) -> Row | None:
        """The row to decide on; none when all are done."""
        return self._current

    def keep(self) -> None:
        """The row is good."""
        self._decide("keep")

    def drop(self) -> None:
        """The row is left out."""
        self._decide("drop")

    def edit(self, row: Row) -> None:
        """Another row takes its place."""
        self._decide("edit", row)

    def skip(self) -> None:
        """Nothing is decided; the row is kept, and asked for again in the next session."""
        self._move(self._required(), decided=False)

    def undo(self) -> bool:
        """Go back to the row before and take back what was decided on it; false where there is none."""
        if not self._behind:
            return False
        row, decided = self._behind.pop()
        if decided:
            self._decisions.add(row, "undo")
            self.decided -= 1
        if self._current is not None:
            self._ahead.append(self._current)
        self._current = row
        return True

    def _decide(self, verdict: Verdict, edited: Row | None = None) -> None:
        row = self._required()
        self._decisions.add(row, verdict, edited)
        self.decided += 1
        self._move(row, decided=True)

    def _required(self) -> Row:
        if self._current is None:
            raise LookupError("there is no row left to decide on")
        return self._current

    def _move(self, row: Row, *, decided: bool) -> None:
        self._behind.append((row, decided))
        self._current = self._ahead.pop() if self._ahead else self._next()

    def _next(self) -> Row | None:
        return next((row for row in self._rows if self._decisions.on(row) is None), None)
