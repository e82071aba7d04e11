"""What a step did, in numbers: rows kept as they were, changed, and dropped, with reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from train.dataset.curate.outcome import Changed, Dropped, Outcome


@dataclass(slots=True)
class Tally:
    """Counts of one step.

    Attributes:
        kept, changed, dropped: rows; together all that came in.
        changes: what was changed, by kind; a row can have several.
        reasons: dropped rows by reason.
    """

    kept: int = 0
    changed: int = 0
    dropped: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count what became of one row."""
        if isinstance(outcome, Dropped):
            self.dropped += 1
            self.reasons[outcome.reason] += 1
        elif isinstance(outcome, Changed):
            self.changed += 1
            self.changes.update(outcome.reasons)
        else:
            self.kept += 1

    def merge(self, other: Self) -> None:
        """Add the counts of the same step over other rows."""
        self.kept += other.kept
        self.changed += other.changed
        self.dropped += other.dropped
        self.changes.update(other.changes)
        self.reasons.update(other.reasons)

    @classmethod
    def of_drops(cls, rows: int, reasons: Mapping[str, int]) -> Self:
        """The tally of a step that dropped some of ``rows`` and changed none."""
        dropped = sum(reasons.values())
        return cls(kept=rows - dropped, dropped=dropped, reasons=Counter(reasons))

    def body(self) -> dict[str, Any]:
        """The tally as JSON, without counts of nothing."""
        return {
            "kept": self.kept,
            "changed": self.changed,
            "dropped": self.dropped,
            "changes": _sorted(self.changes),
            "reasons": _sorted(self.reasons),
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read what ``body`` gave."""
        return cls(**{**body, "changes": Counter(body["changes"]), "reasons": Counter(body["reasons"])})


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in sorted(counts.items()) if count}
