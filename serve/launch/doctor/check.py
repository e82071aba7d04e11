"""One thing that was looked at, and how a table of them reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fix"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one thing.

    Attributes:
        name: the thing, in a word or two.
        state: ``ok``; ``warn``: the group runs, and something is not as it should be; ``fix``: it will not run.
        seen: what was found, in one line.
        do: what to do about it; empty where there is nothing to do.
    """

    name: str
    state: State
    seen: str
    do: str = ""


def table(checks: Iterable[Check]) -> str:
    """The checks as lines: state, name, what was seen, and below it what to do."""
    rows = list(checks)
    width = max((len(row.name) for row in rows), default=0)
    lines = []
    for row in rows:
        lines.append(f"{row.state:<4}  {row.name:<{width}}  {row.seen}")
        lines += [f"{'':<{width + 8}}-> {line}" for line in row.do.splitlines()]
    return "\n".join(lines)


def summary(checks: Iterable[Check]) -> str:
    """One line on all of them."""
    states = [check.state for check in checks]
    if "fix" in states:
        return f"{states.count('fix')} to fix, {states.count('warn')} to look at"
    return f"nothing to fix, {states.count('warn')} to look at" if "warn" in states else "nothing to fix"
