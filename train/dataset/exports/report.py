"""What an export run did, in numbers, and what did not become a row."""

from __future__ import annotations

from collections import Counter
from typing import Any

from train.dataset.exports.problems import Problem, Reason
from train.dataset.rows import Row

MAX_LISTED = 1000


class Report:
    """Counts of a run.

    Attributes:
        files: inputs that were read.
        read: conversations (or branches) that were found, broken ones included.
        written: rows.
        filtered: rows that a filter left out.
        duplicates: rows that were there already; ``replaced`` ones made way for a later version of themselves.
        sources: rows by source.
        skipped: problems by reason.
        problems: the first ``MAX_LISTED`` of them, without those that every archive has.
    """

    def __init__(self) -> None:
        self.files = 0
        self.read = 0
        self.written = 0
        self.filtered = 0
        self.duplicates = 0
        self.replaced = 0
        self.sources: Counter[str] = Counter()
        self.skipped: Counter[Reason] = Counter()
        self.problems: list[Problem] = []

    def skip(self, problem: Problem) -> None:
        """Count a problem."""
        self.read += problem.place.number is not None
        self.skipped[problem.reason] += 1
        if problem.reason is not Reason.NOT_CONVERSATIONS and len(self.problems) < MAX_LISTED:
            self.problems.append(problem)

    def write(self, row: Row) -> None:
        """Count a row that is written."""
        self.written += 1
        self.sources[row.source] += 1

    @property
    def faults(self) -> int:
        """How many of the problems are faults."""
        return sum(count for reason, count in self.skipped.items() if reason.fault)

    def body(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "files": self.files,
            "read": self.read,
            "written": self.written,
            "filtered": self.filtered,
            "duplicates": self.duplicates,
            "replaced": self.replaced,
            "sources": dict(sorted(self.sources.items())),
            "skipped": {str(reason): count for reason, count in sorted(self.skipped.items())},
            "problems": [problem.body() for problem in self.problems],
        }

    def text(self) -> str:
        """The report for a person, without the list of problems."""
        sources = ", ".join(f"{name} {count}" for name, count in sorted(self.sources.items()))
        lines = [f"read {self.read}, written {self.written}" + (f" ({sources})" if sources else "")]
        also = {"filtered out": self.filtered, "duplicates": self.duplicates, "replaced by later": self.replaced}
        lines += [f"{name}: {count}" for name, count in also.items() if count]
        lines += [f"skipped, {reason}: {count}" for reason, count in sorted(self.skipped.items())]
        return "\n".join(lines)
