"""From events to a file: filters, duplicates, strictness, a file that is whole or not there."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from train.dataset.disk import whole_file
from train.dataset.exports import (
    Event,
    ExportStopped,
    Place,
    Problem,
    Reason,
    Report,
    RowFilter,
    write_rows,
)
from train.dataset.exports.report import MAX_LISTED
from train.dataset.rows import Message, Provenance, Row

T0 = datetime(2026, 5, 17, tzinfo=UTC)
FAULT = Problem(Place("f", number=2), Reason.BROKEN_JSON, "x")


def row(id: str, answer: str = "Paris.", days: int | None = 0, model: str | None = None) -> Row:
    return Row(
        id=id,
        source="chatgpt",
        created_at=T0,
        model=model,
        messages=(Message(role="user", content="?"), Message(role="assistant", content=answer)),
        provenance=Provenance(updated_at=None if days is None else T0 + timedelta(days=days)),
    )


def written(*events: Event, wanted: RowFilter | None = None, strict: bool = False) -> tuple[list[Row], Report]:
    out, report = io.BytesIO(), Report()
    write_rows(events, out, report, wanted=wanted, strict=strict)
    return [Row.from_json(line) for line in out.getvalue().splitlines()], report


def test_a_conversation_that_comes_again_is_kept_once_and_counted() -> None:
    rows, report = written(row("a"), row("b"), row("a"))
    assert [one.id for one in rows] == ["a", "b"]
    assert (report.read, report.written, report.duplicates) == (3, 2, 1)


def test_of_two_versions_the_one_that_changed_last_is_kept_in_its_place() -> None:
    rows, report = written(row("a", "old"), row("b"), row("a", "new", days=2), row("c"), row("a", "older", days=1))
    assert [(one.id, one.messages[1].content) for one in rows] == [("b", "Paris."), ("a", "new"), ("c", "Paris.")]
    assert (report.written, report.replaced, report.duplicates) == (3, 1, 1)


def test_many_replaced_rows_leave_no_trace() -> None:
    rows, report = written(*(row(f"{number % 10}", f"{number}", days=number) for number in range(100)))
    assert [one.messages[1].content for one in rows] == [str(number) for number in range(90, 100)]
    assert (report.written, report.replaced) == (10, 90)


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (RowFilter(since=T0), True),
        (RowFilter(since=T0 + timedelta(seconds=1)), False),
        (RowFilter(until=T0), False),
        (RowFilter(until=T0 + timedelta(seconds=1)), True),
        (RowFilter(model="m"), True),
        (RowFilter(model="other"), False),
    ],
)
def test_filters_take_from_since_on_and_before_until(wanted: RowFilter, kept: bool) -> None:
    rows, report = written(row("a", model="m"), wanted=wanted)
    assert (len(rows) == 1, report.filtered == 0) == (kept, kept)


def test_a_row_without_a_time_passes_no_filter_of_times() -> None:
    rows, _ = written(row("a").model_copy(update={"created_at": None}), wanted=RowFilter(since=T0))
    assert rows == []


def test_strict_stops_at_a_fault_and_not_at_an_empty_chat() -> None:
    empty = Problem(Place("f", number=1), Reason.EMPTY, "x")
    with pytest.raises(ExportStopped) as stopped:
        written(row("a"), empty, FAULT, row("b"), strict=True)
    assert stopped.value.problem is FAULT


def test_the_report_counts_every_problem_and_lists_the_first() -> None:
    _, report = written(*[FAULT] * (MAX_LISTED + 5), row("a"))
    body = report.body()
    assert body["skipped"] == {"broken_json": MAX_LISTED + 5}
    assert len(body["problems"]) == MAX_LISTED
    assert body["problems"][0] == {"file": "f", "number": 2, "reason": "broken_json", "detail": "x"}
    assert "skipped, broken_json: 1005" in report.text()


def test_a_file_appears_when_it_is_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with whole_file(path) as file:
        file.write(b"x")
        assert not path.exists()
    assert path.read_bytes() == b"x"
    assert path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"before")

    def fail() -> None:
        with whole_file(path) as file:
            file.write(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
