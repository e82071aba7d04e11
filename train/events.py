"""What happens in a training run, kept in its folder: one event a line, appended, for whoever follows.

On a disk the events are ``events.jsonl``. Object stores cannot append; there each event is an object of its own,
``events/000001.jsonl``, ``events/000002.jsonl``, and one process at a time may write.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
from filelock import FileLock

from train.run_folder import RunFolder, StorageError, StorageUnreachable

EVENTS = "events.jsonl"
PARTS = "events"

Level = Literal["info", "warning", "error"]
Kind = Literal["message", "state", "metrics", "checkpoint"]
State = Literal["queued", "starting", "running", "paused", "succeeded", "failed", "cancelled"]

#: Enough for the last event and the newline before it.
_TAIL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        seq: its number in the run, from 1, without gaps.
        at: seconds since 1970.
        message: a sentence for people; never holds what was said in a conversation.
        data: by ``type``: of ``state`` the ``state`` and an ``error``; of ``metrics`` ``step``, ``total_steps``,
            ``epoch``, ``loss``, ``learning_rate``, ``tokens``, ``tokens_per_second`` and, after an evaluation,
            ``eval_loss``; of ``checkpoint`` the ``step`` and its ``path``.
    """

    seq: int
    at: float
    level: Level
    type: Kind
    message: str
    data: dict[str, Any]

    def to_json(self) -> bytes:
        """The event as a line of JSONL."""
        return orjson.dumps(asdict(self), option=orjson.OPT_APPEND_NEWLINE)


class EventLog:
    """Writes the events of a run. On a disk, several processes may write at once."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def write(
        self, type: Kind, message: str, data: Mapping[str, Any] | None = None, *, level: Level = "info"
    ) -> Event:
        """Add an event; it is there for readers when this returns.

        Raises:
            StorageError
        """
        local = self._folder.local
        given = dict(data or {})
        if local is None:
            seq = max(_parts(self._folder), default=0) + 1
            event = Event(seq, time.time(), level, type, message, given)
            self._folder.write(_part(seq), event.to_json())
            return event
        try:
            with FileLock(local / f"{EVENTS}.lock"), (local / EVENTS).open("a+b") as file:
                end, last = _whole_end(file)
                event = Event(last + 1, time.time(), level, type, message, given)
                # A process that was killed may have left half a line.
                file.truncate(end)
                file.write(event.to_json())
        except OSError as error:
            raise StorageUnreachable(f"{local / EVENTS}: {error.strerror or error}") from error
        return event

    def state(self, state: State, message: str, error: Mapping[str, Any] | None = None) -> Event:
        """Say that the run is in another state now."""
        level: Level = "error" if state == "failed" else "info"
        return self.write("state", message, {"state": state, "error": dict(error) if error else None}, level=level)


def read_events(folder: RunFolder, after: int = 0) -> list[Event]:
    """The events with a number above ``after``, in order; none where the run has none yet.

    Raises:
        StorageError: they cannot be read, or are none.
    """
    return list(_events(folder, after))


def last_state(events: list[Event]) -> State | None:
    """The state that the last of the events that say one leaves the run in."""
    return next((event.data["state"] for event in reversed(events) if event.type == "state"), None)


def _events(folder: RunFolder, after: int) -> Iterator[Event]:
    for line in _lines(folder, after):
        try:
            event = Event(**orjson.loads(line))
        except (orjson.JSONDecodeError, TypeError):
            raise StorageError(f"{folder.address}: holds a line of events that is none") from None
        if event.seq > after:
            yield event


def _lines(folder: RunFolder, after: int) -> Iterator[bytes]:
    if folder.local is None:
        for seq in _parts(folder):
            if seq > after:
                yield folder.read(_part(seq)) or b""
        return
    # What follows on the last newline is still being written.
    yield from (folder.read(EVENTS) or b"").split(b"\n")[:-1]


def _part(seq: int) -> str:
    return f"{PARTS}/{seq:06}.jsonl"


def _parts(folder: RunFolder) -> list[int]:
    stems = (Path(name).stem for name in folder.names(PARTS))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _whole_end(file: Any) -> tuple[int, int]:  # noqa: ANN401 - a binary file that can be sought in
    """Where the whole lines of ``file`` end, and the number of the last event."""
    size = file.seek(0, 2)
    tail_bytes = _TAIL_BYTES
    while True:
        begin = max(0, size - tail_bytes)
        file.seek(begin)
        tail = file.read(size - begin)
        whole = tail[: tail.rfind(b"\n") + 1]
        lines = whole.splitlines()
        # The first line of a tail may be cut, unless the tail is the whole file.
        if len(lines) > 1 or begin == 0:
            break
        tail_bytes *= 2
    return begin + len(whole), orjson.loads(lines[-1])["seq"] if lines else 0
