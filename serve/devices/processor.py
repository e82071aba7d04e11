"""The processor: what it is, what it can do for an engine, and how much of it this process may use."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from serve.devices.cgroups import ROOT, Group, groups

#: Linux's name of an instruction set -> the engines' name, for those that they have code for
#: (https://github.com/ggml-org/llama.cpp/blob/master/ggml/CMakeLists.txt).
_FEATURES = {
    "sse4_2": "sse4.2",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "bmi2": "bmi2",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sme": "sme",
}


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor.

    Attributes:
        model: its name.
        features: instruction sets that engines have code for, in the order of the table above.
        cores: whole cores that this process may use.
        quota: processor time that its control groups allow, in cores; none means no limit.
    """

    model: str
    features: tuple[str, ...]
    cores: int
    quota: float | None


def processor(root: Path = ROOT) -> Processor:
    """This machine's processor."""
    model, features = _apple() if platform.system() == "Darwin" else _linux(root)
    return Processor(model, features, usable_cores(root), quota(root))


def usable_cores(root: Path = ROOT) -> int:
    """Whole cores that this process may use: those it may run on, at most what its quota pays for, at least 1.

    A quota is rounded down: an engine's threads wait for each other at every layer, so one thread too many is stopped
    with the quota used up while the others spin.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = quota(root)
    return cores if allowed is None else max(1, min(cores, math.floor(allowed)))


def quota(root: Path = ROOT) -> float | None:
    """Processor time that the control groups of this process allow, in cores; none means no limit."""
    return min((share for group in groups("cpu", root) if (share := _share(group)) is not None), default=None)


def _share(group: Group) -> float | None:
    """``cpu.max`` of version 2 is ``MAX PERIOD`` in microseconds; version 1 has two files, and -1 for no limit."""
    if group.version == 2:
        allowed, _, period = (group.text("cpu.max") or "max").partition(" ")
        return None if allowed == "max" else int(allowed) / int(period)
    micros, every = group.number("cpu.cfs_quota_us"), group.number("cpu.cfs_period_us")
    return None if micros is None or every is None or micros <= 0 else micros / every


def _linux(root: Path) -> tuple[str, tuple[str, ...]]:
    """The first processor of ``/proc/cpuinfo``; ARM gives no name there."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return platform.machine(), ()
    first = dict(_line(line) for line in text.partition("\n\n")[0].splitlines())
    flags = (first.get("flags") or first.get("Features") or "").split()
    return first.get("model name") or platform.machine(), _known(flags)


def _apple() -> tuple[str, tuple[str, ...]]:
    """A Mac's processor, by sysctl; every one of Apple's own has NEON."""
    names = ("machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features")
    brand, *flags = [
        subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=False).stdout.strip()
        for name in names
    ]
    here = " ".join(flags).lower().replace("avx1.0", "avx").replace("sse4.2", "sse4_2").split()
    return brand, _known(["asimd"] if platform.machine() == "arm64" else here)


def _line(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _known(flags: list[str]) -> tuple[str, ...]:
    return tuple(name for flag, name in _FEATURES.items() if flag in flags)
