"""The events of a run: numbered without gaps, whoever writes, and whole lines only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from train.events import EVENTS, EventLog, last_state, read_events
from train.run_folder import RunFolder, StorageError


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    found = RunFolder(str(tmp_path) if request.param == "disk" else f"memory://{tmp_path.name}", "one")
    found.make()
    return found


@pytest.fixture
def on_disk(tmp_path: Path) -> RunFolder:
    found = RunFolder(str(tmp_path), "one")
    found.make()
    return found


def test_events_come_back_in_order_from_a_number_on(folder: RunFolder) -> None:
    assert read_events(folder) == []
    log = EventLog(folder)
    written = [log.write("message", f"ünï {number}\nline", {"number": number}) for number in range(12)]
    assert read_events(folder) == written
    assert [event.seq for event in read_events(folder, after=10)] == [11, 12]


def test_the_last_state_counts(folder: RunFolder) -> None:
    log = EventLog(folder)
    assert last_state(read_events(folder)) is None
    log.state("starting", "go")
    log.state("failed", "no", {"code": "X", "message": "no"})
    log.write("message", "later")
    events = read_events(folder)
    assert last_state(events) == "failed"
    assert [event.level for event in events] == ["info", "error", "info"]


def test_many_writers_at_once_lose_nothing(on_disk: RunFolder) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: EventLog(on_disk).write("message", str(number)), range(64)))
    events = read_events(on_disk)
    assert [event.seq for event in events] == list(range(1, 65))
    assert {event.message for event in events} == {str(number) for number in range(64)}


def test_half_a_line_of_a_killed_writer_is_passed_over_and_then_removed(on_disk: RunFolder) -> None:
    log = EventLog(on_disk)
    log.write("message", "whole")
    path = Path(on_disk.address) / EVENTS
    with path.open("ab") as file:
        file.write(b'{"seq": 2, "at"')
    assert [event.message for event in read_events(on_disk)] == ["whole"]
    log.write("message", "next")
    assert [(event.seq, event.message) for event in read_events(on_disk)] == [(1, "whole"), (2, "next")]


def test_an_event_longer_than_what_is_read_from_the_end_keeps_the_count(on_disk: RunFolder) -> None:
    log = EventLog(on_disk)
    for size in (10, 200_000, 70_000):
        log.write("message", "x" * size)
    assert log.write("message", "last").seq == 4


def test_a_line_that_is_no_event_is_a_fault(on_disk: RunFolder) -> None:
    (Path(on_disk.address) / EVENTS).write_text('{"seq": 1}\n', encoding="utf-8")
    with pytest.raises(StorageError, match="holds a line of events that is none"):
        read_events(on_disk)
