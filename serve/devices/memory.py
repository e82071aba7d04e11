"""How much memory this process may hold: the machine's, or what its container was given."""

from __future__ import annotations

from pathlib import Path

import psutil

from serve.devices.cgroups import ROOT, Group, groups


def limit_bytes(root: Path = ROOT) -> int:
    """The most that this process and what shares its limits may hold: the smallest of the physical memory and the
    limits of its control groups. Swap does not count."""
    limits = [limit for _, limit in _limited(root)]
    return min([_physical("MemTotal", root), *limits])


def available_bytes(root: Path = ROOT) -> int:
    """What can still be taken under ``limit_bytes``.

    Page cache counts as available, since the kernel gives it up for what asks; so do the pages of files that are
    mapped and in use, such as weights: who loads a second model should count those of the first themselves.
    """
    rooms = [limit - _held(group) for group, limit in _limited(root)]
    return max(0, min([_physical("MemAvailable", root), *rooms]))


def _limited(root: Path) -> list[tuple[Group, int]]:
    """The control groups that have a limit, with it."""
    names = {1: "memory.limit_in_bytes", 2: "memory.max"}
    found = [(group, group.number(names[group.version])) for group in groups("memory", root)]
    return [(group, limit) for group, limit in found if limit is not None]


def _held(group: Group) -> int:
    """What the group holds that the kernel cannot give up: all but its page cache. Shared memory is in neither list
    of file pages."""
    used = group.number({1: "memory.usage_in_bytes", 2: "memory.current"}[group.version]) or 0
    stat = group.numbers("memory.stat")
    # Version 1 counts the groups below under names of their own.
    prefix = "total_" if group.version == 1 else ""
    return used - stat.get(f"{prefix}active_file", 0) - stat.get(f"{prefix}inactive_file", 0)


def _physical(name: str, root: Path) -> int:
    """A line of ``/proc/meminfo`` in bytes; what psutil knows where there is no such file."""
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
    except FileNotFoundError:
        memory = psutil.virtual_memory()
        return int(memory.total if name == "MemTotal" else memory.available)
    lines = dict(line.split(":", 1) for line in text.splitlines())
    return int(lines[name].split()[0]) * 1024
