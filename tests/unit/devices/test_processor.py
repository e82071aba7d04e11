"""The processor, and how much of it this process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve.devices.processor import processor, quota, usable_cores
from tests.unit.devices.trees import version1, version2, write

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PERIOD = 100_000


def test_without_a_quota_every_core_that_the_process_may_run_on_counts(tmp_path: Path) -> None:
    root = version2(tmp_path, "/pod", {"pod/cpu.max": f"max {PERIOD}"})
    assert (quota(root), usable_cores(root)) == (None, CORES)


def test_a_machine_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert (quota(tmp_path), usable_cores(tmp_path)) == (None, CORES)


@pytest.mark.parametrize(("micros", "share", "cores"), [(PERIOD, 1.0, 1), (50_000, 0.5, 1), (190_000, 1.9, 1)])
def test_a_quota_is_rounded_down_to_at_least_one_core(tmp_path: Path, micros: int, share: float, cores: int) -> None:
    root = version2(tmp_path, "/pod", {"pod/cpu.max": f"{micros} {PERIOD}"})
    assert (quota(root), usable_cores(root)) == (share, cores)


def test_a_quota_above_the_cores_adds_none(tmp_path: Path) -> None:
    root = version2(tmp_path, "/pod", {"pod/cpu.max": f"{1000 * PERIOD} {PERIOD}"})
    assert usable_cores(root) == CORES


def test_the_smallest_quota_up_the_hierarchy_counts(tmp_path: Path) -> None:
    files = {"a/cpu.max": f"150000 {PERIOD}", "a/b/cpu.max": f"400000 {PERIOD}"}
    assert quota(version2(tmp_path, "/a/b", files)) == 1.5


def test_a_quota_of_version_1_is_read_and_minus_one_means_none(tmp_path: Path) -> None:
    files = {
        "cpu/cpu.cfs_quota_us": "-1",
        "cpu/cpu.cfs_period_us": "100000",
        "cpu/pod/cpu.cfs_quota_us": "250000",
        "cpu/pod/cpu.cfs_period_us": "100000",
    }
    assert quota(version1(tmp_path, "/pod", files)) == 2.5


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux lets a process be bound to cores")
def test_a_process_bound_to_one_core_has_one(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_the_instruction_sets_of_an_x86_processor_are_named_as_engines_do(tmp_path: Path) -> None:
    text = (
        "processor\t: 0\nmodel name\t: AMD EPYC 9354\nflags\t\t: fpu avx avx2 fma avx512f avx512_bf16 hypervisor\n\n"
    )
    found = processor(write(tmp_path, {"proc/cpuinfo": text + text.replace("9354", "other")}))
    assert found.model == "AMD EPYC 9354"
    assert found.features == ("avx", "avx2", "fma", "avx512f", "avx512_bf16")


def test_the_instruction_sets_of_an_arm_processor_are_found_though_it_has_no_name(tmp_path: Path) -> None:
    found = processor(
        write(tmp_path, {"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16 sve\n"})
    )
    assert found.features == ("neon", "dotprod", "i8mm", "bf16", "sve")
    assert found.model


def test_a_feature_is_not_found_in_the_name_of_another(tmp_path: Path) -> None:
    assert processor(write(tmp_path, {"proc/cpuinfo": "flags : avx512_vnni\n"})).features == ("avx512_vnni",)
