"""The GPUs of a node, from what their drivers say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve.devices.gpus import Gpu, gpus, parse_nvidia_smi
from tests.unit.devices.trees import GIB, write

MIB = 1 << 20


def test_each_line_of_nvidia_smis_csv_is_a_gpu() -> None:
    text = "NVIDIA A100-SXM4-80GB, 81920, 81036, 550.54.15\nNVIDIA L4, 23034, 22515, 550.54.15\n"
    assert parse_nvidia_smi(text) == (
        Gpu("nvidia", "NVIDIA A100-SXM4-80GB", 81920 * MIB, 81036 * MIB, "550.54.15"),
        Gpu("nvidia", "NVIDIA L4", 23034 * MIB, 22515 * MIB, "550.54.15"),
    )


@pytest.mark.parametrize("word", ["[N/A]", "[Not Supported]"])
def test_a_gpu_that_does_not_tell_its_memory_is_still_one(word: str) -> None:
    assert parse_nvidia_smi(f"NVIDIA GB10, {word}, {word}, 580.65\n") == (
        Gpu("nvidia", "NVIDIA GB10", None, None, "580.65"),
    )


@pytest.mark.parametrize("text", ["", "\n", "No devices were found\n"])
def test_no_line_of_that_form_is_no_gpu(text: str) -> None:
    assert parse_nvidia_smi(text) == ()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def nvidia_smi(folder: Path, script: str) -> None:
    """A program of that name."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_a_machine_without_any_driver_has_no_gpu_and_no_fault(programs: Path, tmp_path: Path) -> None:
    found = gpus(tmp_path)
    assert (found.found, found.fault) == ((), None)


def test_a_driver_that_does_not_answer_is_told_with_its_own_words(programs: Path, tmp_path: Path) -> None:
    nvidia_smi(programs, "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    found = gpus(tmp_path)
    assert found.found == ()
    assert found.fault == "nvidia-smi failed: Failed to initialize NVML: Driver/library version mismatch"


def test_a_program_that_cannot_be_run_is_told(programs: Path, tmp_path: Path) -> None:
    (programs / "nvidia-smi").write_bytes(os.urandom(64))
    (programs / "nvidia-smi").chmod(0o755)
    assert "cannot be run" in (gpus(tmp_path).fault or "")


def test_an_amd_gpu_is_found_by_its_drivers_files(programs: Path, tmp_path: Path) -> None:
    card = "sys/class/drm/card1/device"
    files = {
        f"{card}/vendor": "0x1002\n",
        f"{card}/mem_info_vram_total": f"{16 * GIB}\n",
        f"{card}/mem_info_vram_used": f"{1 * GIB}\n",
        "sys/class/drm/card0/device/vendor": "0x8086\n",
        "sys/class/drm/card1-DP-1/device/vendor": "0x1002\n",
    }
    assert gpus(write(tmp_path, files)).found == (Gpu("amd", "AMD GPU", 16 * GIB, 15 * GIB),)
