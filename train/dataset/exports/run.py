"""From events to a file of rows: filters, duplicates, a report, and a file that is whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import IO

from train.dataset.exports.files import Event
from train.dataset.exports.index import RowIndex, Verdict
from train.dataset.exports.problems import Problem
from train.dataset.exports.report import Report
from train.dataset.rows import Row


class ExportStopped(Exception):
    """``strict``: something is wrong with the input, and nothing was written."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows are wanted.

    Attributes:
        since, until: begun at this time or later; begun before this time. Rows without a time do not pass.
        model: the last answer is by this model.
    """

    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None

    def passes(self, row: Row) -> bool:
        """Whether ``row`` is wanted."""
        if self.model is not None and row.model != self.model:
            return False
        if self.since is None and self.until is None:
            return True
        if row.created_at is None:
            return False
        return not (self.since and row.created_at < self.since) and not (self.until and row.created_at >= self.until)


def write_rows(
    events: Iterable[Event],
    out: IO[bytes],
    report: Report,
    *,
    wanted: RowFilter | None = None,
    strict: bool = False,
    tell: Callable[[Problem], None] = lambda problem: None,
) -> None:
    """Write the rows among ``events`` to ``out``, each conversation once, in their order.

    Args:
        events: rows and problems.
        out: takes JSONL; empty, and can be read and sought in too.
        report: counts what happens.
        wanted: leaves out the others.
        strict: stop at the first fault.
        tell: is told each fault.

    Raises:
        ExportStopped: strict, and there is a fault.
    """
    wanted = wanted or RowFilter()
    with RowIndex() as index:
        line = 0
        for event in events:
            if isinstance(event, Problem):
                report.skip(event)
                if event.reason.fault:
                    if strict:
                        raise ExportStopped(event)
                    tell(event)
                continue
            report.read += 1
            if not wanted.passes(event):
                report.filtered += 1
                continue
            verdict = index.add(event, line)
            if verdict is Verdict.DUPLICATE:
                report.duplicates += 1
                continue
            out.write(event.to_json())
            line += 1
            if verdict is Verdict.NEWER:
                report.replaced += 1
            else:
                report.write(event)
        if report.replaced:
            _drop_superseded(out, index)


def _drop_superseded(out: IO[bytes], index: RowIndex) -> None:
    """Move every other line up, in place."""
    read = written = number = 0
    while True:
        out.seek(read)
        line = out.readline()
        if not line:
            break
        read += len(line)
        if not index.superseded(number):
            out.seek(written)
            out.write(line)
            written += len(line)
        number += 1
    out.truncate(written)
