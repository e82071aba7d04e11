"""The GPUs of this node.

NVIDIA's are found with ``nvidia-smi``, which comes with the driver, so nothing has to be installed for it; AMD's by
what the ``amdgpu`` driver shows under ``/sys``; Apple's own processors have one that shares the machine's memory.
Others (Intel, AMD on other drivers) are not looked for. All GPUs of the machine are listed, also those that a process
was not given (``CUDA_VISIBLE_DEVICES``).
"""

from __future__ import annotations

import csv
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from serve.devices.cgroups import ROOT

Vendor = Literal["nvidia", "amd", "apple"]

#: See `nvidia-smi --help-query-gpu`.
_FIELDS = ("name", "memory.total", "memory.free", "driver_version")
_SECONDS = 20.0
_MEBIBYTE = 1 << 20
_AMD = "0x1002"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        total_bytes, free_bytes: its memory; none where it has none of its own, or does not tell.
        driver: version of the driver; none where it was not asked.
    """

    vendor: Vendor
    name: str
    total_bytes: int | None
    free_bytes: int | None
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class Gpus:
    """What was found.

    Attributes:
        fault: why NVIDIA's program, which is here, could not tell; none when it could.
    """

    found: tuple[Gpu, ...] = ()
    fault: str | None = None


def gpus(root: Path = ROOT) -> Gpus:
    """The GPUs of this node; asks a program, which can take seconds."""
    if platform.system() == "Darwin":
        return Gpus(_apple())
    others = _amd(root)
    program = shutil.which("nvidia-smi")
    if program is None:
        return Gpus(others)
    command = [program, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Gpus(others, f"nvidia-smi cannot be run: {error}")
    if result.returncode != 0:
        # It tells what is wrong on standard output.
        lines = (result.stdout.strip() or result.stderr.strip()).splitlines()
        return Gpus(others, f"nvidia-smi failed: {lines[0] if lines else f'exit code {result.returncode}'}")
    return Gpus((*parse_nvidia_smi(result.stdout), *others))


def parse_nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """The lines of ``nvidia-smi --format=csv,noheader,nounits``: one for each GPU, sizes in MiB; ``[N/A]`` or
    ``[Not Supported]`` stands for what a GPU does not tell, as those that share the machine's memory do."""
    rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if len(row) == len(_FIELDS)]
    return tuple(
        Gpu("nvidia", name, _mebibytes(total), _mebibytes(free), driver) for name, total, free, driver in rows
    )


def _mebibytes(text: str) -> int | None:
    return int(text) * _MEBIBYTE if text.strip().isdecimal() else None


def _amd(root: Path) -> tuple[Gpu, ...]:
    """What the amdgpu driver shows (https://docs.kernel.org/gpu/amdgpu/driver-misc.html)."""
    found = []
    for device in sorted((root / "sys/class/drm").glob("card[0-9]*/device")):
        total, used = _number(device / "mem_info_vram_total"), _number(device / "mem_info_vram_used")
        if _text(device / "vendor") == _AMD and total is not None and used is not None:
            found.append(Gpu("amd", _text(device / "product_name") or "AMD GPU", total, total - used))
    return tuple(found)


def _apple() -> tuple[Gpu, ...]:
    if platform.machine() != "arm64":
        return ()
    return (Gpu("apple", "Metal, in the processor", psutil.virtual_memory().total, None),)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdecimal() else None
