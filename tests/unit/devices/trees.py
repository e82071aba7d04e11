"""Folders that look like the ``/proc`` and ``/sys`` of a machine, for functions that take the root."""

from __future__ import annotations

from pathlib import Path

GIB = 1 << 30

#: A machine of 64 GiB of which 60 are free.
MEMINFO = f"MemTotal:       {64 << 20} kB\nMemFree:        {1 << 20} kB\nMemAvailable:   {60 << 20} kB\n"


def write(root: Path, files: dict[str, str]) -> Path:
    """``root`` with the files in it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def version2(root: Path, path: str, files: dict[str, str], *, inside: str = "/") -> Path:
    """A machine with control groups of version 2.

    Args:
        path: the group of this process, as ``/proc/self/cgroup`` gives it.
        files: what lies below ``/sys/fs/cgroup``.
        inside: the group that is mounted there.
    """
    return write(
        root,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": f"0::{path}\n",
            "proc/self/mountinfo": "23 28 0:21 / /proc rw,nosuid - proc proc rw\n"
            f"30 23 0:26 {inside} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
            **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
        },
    )


def version1(root: Path, path: str, files: dict[str, str], *, inside: str = "/") -> Path:
    """A machine with control groups of version 1, memory and processor time in hierarchies of their own, and an empty
    one of version 2 beside them, as systemd mounts it."""
    return write(
        root,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": f"9:name=systemd:/\n4:memory:{path}\n1:cpu,cpuacct:{path}\n0::/\n",
            "proc/self/mountinfo": f"32 31 0:29 {inside} /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
            f"35 31 0:32 {inside} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
            "40 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
            "sys/fs/cgroup/unified/cgroup.procs": "1\n",
            **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
        },
    )
