"""The Linux control groups that this process is in, version 1 or 2, with or without a namespace of their own.

https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/cgroups.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Group:
    """One control group.

    Attributes:
        folder: its files.
        version: 1 or 2, which decides how they are called.
    """

    folder: Path
    version: int

    def text(self, name: str) -> str | None:
        """The content of a file; none where this group has none, or this user may not read it."""
        try:
            return (self.folder / name).read_text(encoding="ascii").strip()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None

    def number(self, name: str) -> int | None:
        """The number in a file; none where there is none, ``max`` (no limit) included."""
        found = self.text(name)
        return int(found) if found is not None and re.fullmatch(r"-?\d+", found) else None

    def numbers(self, name: str) -> dict[str, int]:
        """A file of lines ``NAME NUMBER``, such as ``memory.stat``."""
        pairs = [line.split() for line in (self.text(name) or "").splitlines()]
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def groups(controller: str, root: Path = ROOT) -> list[Group]:
    """The groups of this process that ``controller`` (``memory``, ``cpu``) works on, its own first, up to the topmost
    that can be seen from here; empty where there are no control groups (macOS)."""
    found = []
    for version, path in _memberships(controller, root):
        for inside, mount in _mounts(controller, version, root):
            found += [Group(folder, version) for folder in _upwards(path, inside, mount)]
    return found


def _memberships(controller: str, root: Path) -> list[tuple[int, PurePosixPath]]:
    """``/proc/self/cgroup``: lines ``ID:CONTROLLERS:PATH``; version 2 has ID 0 and names no controllers."""
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            found.append((2, PurePosixPath(path)))
        elif controller in controllers.split(","):
            found.append((1, PurePosixPath(path)))
    return found


def _mounts(controller: str, version: int, root: Path) -> list[tuple[PurePosixPath, Path]]:
    """Where the hierarchy is mounted, each with the group that its top is: ``/proc/self/mountinfo``, whose fields are
    in https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html."""
    found = []
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        inside, mount = fields.split(" ")[3:5]
        kind, _, options = rest.split(" ", 2)
        if (version == 2 and kind == "cgroup2") or (
            version == 1 and kind == "cgroup" and controller in options.split(",")
        ):
            found.append((PurePosixPath(_unescaped(inside)), root / _unescaped(mount).lstrip("/")))
    return found


def _upwards(path: PurePosixPath, inside: PurePosixPath, mount: Path) -> list[Path]:
    """The folders of the group at ``path`` and of those above it, down to the mount's own."""
    # A container without a namespace of its own sees the path of the host, of which the mount shows the end only. A
    # group that is outside of what is mounted is held by the limits of the mount's top at least.
    steps = path.relative_to(inside).parts if path.is_relative_to(inside) and ".." not in path.parts else ()
    return [mount.joinpath(*steps[:count]) for count in range(len(steps), -1, -1)]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
