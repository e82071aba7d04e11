"""The ledger of one node's memory: who holds how much, who waits for room, and who should make it.

Only arithmetic and order are here. Replicas say what they hold and want, as often as they like; every reply follows
from what was said last, so that a ledger that begins anew knows all again once every replica has spoken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from serve.residency.need import PROCESS_BYTES

#: ``resting``: not in memory; ``waiting``: wants to be; the others hold their room.
State = Literal["resting", "waiting", "loading", "loaded", "unloading"]

#: A model is not unloaded before it has been idle for this long, so that who waited for it can use it once.
IDLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Holder:
    """A replica's process, which is another one when its number is used again."""

    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica says of itself.

    Attributes:
        need: bytes that its model holds when it is loaded, as estimated.
        resident: bytes that its process holds now.
        on_demand: whether it may be asked to unload.
        busy: requests that use the model now.
        idle_seconds: since the last one ended; 0 while one runs.
    """

    model: str
    state: State
    need: int
    resident: int = 0
    on_demand: bool = False
    busy: int = 0
    idle_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What the ledger says to a replica: load, unload, or nothing yet.

    Attributes:
        refused: why its model can never be loaded here.
    """

    granted: bool = False
    unload: bool = False
    refused: str | None = None


NOTHING = Reply()


@dataclass(slots=True)
class _Entry:
    """A replica's last report, when it came, and its place among those that wait."""

    report: Report
    seen: float
    place: int = 0

    @property
    def held(self) -> int:
        """What its model holds, or has been promised."""
        return 0 if self.report.state in ("resting", "waiting") else self.report.need


@dataclass
class Ledger:
    """The memory that models of one node may hold.

    Attributes:
        limit: bytes of all replicas together.
        clock: seconds that only grow.
    """

    limit: int
    clock: Callable[[], float] = time.monotonic
    _entries: dict[Holder, _Entry] = field(default_factory=dict)
    _places: int = 0

    def take(self, holder: Holder, report: Report) -> bool:
        """Take what a replica says; gives whether that may change what others are told."""
        before = self._entries.get(holder)
        place = before.place if before and before.report.state == "waiting" else 0
        if report.state == "waiting" and not place:
            self._places += 1
            place = self._places
        self._entries[holder] = _Entry(report, self.clock(), place)
        return before is None or (before.report.state, before.report.busy > 0) != (report.state, report.busy > 0)

    def forget(self, gone: Iterable[Holder]) -> None:
        """Take replicas out whose processes have ended."""
        for holder in gone:
            self._entries.pop(holder, None)

    def holders(self) -> list[Holder]:
        """Every replica that has spoken."""
        return list(self._entries)

    def reports(self) -> list[Report]:
        """What each replica said last."""
        return [entry.report for entry in self._entries.values()]

    def reply(self, holder: Holder) -> Reply:
        """What to say to a replica now; room that is granted is held from here on."""
        entry = self._entries[holder]
        if entry.report.state == "waiting":
            if reason := self._never(holder):
                return Reply(refused=reason)
            if self._next() is entry and entry.report.need <= self._free():
                entry.report = replace(entry.report, state="loading")
                return Reply(granted=True)
        elif entry in self._to_unload():
            return Reply(unload=True)
        return NOTHING

    def _free(self) -> int:
        processes = PROCESS_BYTES * len(self._entries)
        return self.limit - processes - sum(entry.held for entry in self._entries.values())

    def _never(self, holder: Holder) -> str | None:
        """Why a replica's model cannot be loaded whatever others do, if that is so."""
        report = self._entries[holder].report
        staying = [other for name, other in self._entries.items() if name != holder and not other.report.on_demand]
        kept = PROCESS_BYTES * len(self._entries) + sum(other.held for other in staying)
        if report.need + kept <= self.limit:
            return None
        return (
            f"the model {report.model!r} needs {in_gb(report.need)}, and of the {in_gb(self.limit)} that models may"
            f" hold on this node {in_gb(kept)} are held by what is never unloaded"
        )

    def _waiting(self) -> list[_Entry]:
        """Those that wait, the longest first."""
        waiting = (entry for entry in self._entries.values() if entry.report.state == "waiting")
        return sorted(waiting, key=lambda entry: entry.place)

    def _next(self) -> _Entry | None:
        """The first of those that wait for which there is room, or can be."""
        room = self._free() + sum(entry.held for entry in self._idle())
        room += sum(entry.held for entry in self._entries.values() if entry.report.state == "unloading")
        return next((entry for entry in self._waiting() if entry.report.need <= room), None)

    def _to_unload(self) -> list[_Entry]:
        """Those that must go for the next of those that wait: idle, least recently used first, and no more of them
        than needed."""
        wanted = self._next()
        if wanted is None:
            return []
        leaving = sum(entry.held for entry in self._entries.values() if entry.report.state == "unloading")
        short = wanted.report.need - self._free() - leaving
        chosen = []
        for entry in self._idle():
            if short <= 0:
                break
            chosen.append(entry)
            short -= entry.held
        return chosen

    def _idle(self) -> list[_Entry]:
        """Those that may be unloaded now, the least recently used first."""
        idle = [
            entry
            for entry in self._entries.values()
            if entry.report.on_demand
            and entry.report.state == "loaded"
            and not entry.report.busy
            and self._idle_seconds(entry) >= IDLE_SECONDS
        ]
        return sorted(idle, key=self._idle_seconds, reverse=True)

    def _idle_seconds(self, entry: _Entry) -> float:
        return entry.report.idle_seconds + self.clock() - entry.seen


def in_gb(size: int) -> str:
    """Bytes for a person."""
    return f"{size / 1e9:.2f} GB"
