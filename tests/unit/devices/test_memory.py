"""The memory that this process may hold."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from serve.devices.memory import available_bytes, limit_bytes
from tests.unit.devices.trees import GIB, MEMINFO, version1, version2, write


def test_without_a_limit_it_is_the_physical_memory(tmp_path: Path) -> None:
    root = version2(tmp_path, "/", {"memory.stat": "inactive_file 1\n"})
    assert (limit_bytes(root), available_bytes(root)) == (64 * GIB, 60 * GIB)


def test_a_machine_without_control_groups_has_its_physical_memory(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": MEMINFO})
    assert (limit_bytes(tmp_path), available_bytes(tmp_path)) == (64 * GIB, 60 * GIB)


def test_where_there_is_no_proc_the_system_is_asked(tmp_path: Path) -> None:
    assert limit_bytes(tmp_path) == psutil.virtual_memory().total
    assert 0 < available_bytes(tmp_path) <= limit_bytes(tmp_path)


def test_the_limit_of_a_group_of_version_2_counts_and_its_page_cache_is_available(tmp_path: Path) -> None:
    files = {
        "pod/memory.max": str(8 * GIB),
        "pod/memory.current": str(5 * GIB),
        "pod/memory.stat": f"anon {2 * GIB}\nfile {3 * GIB}\nactive_file {1 * GIB}\ninactive_file {1 * GIB}\n",
    }
    root = version2(tmp_path, "/pod", files)
    assert limit_bytes(root) == 8 * GIB
    assert available_bytes(root) == 5 * GIB


def test_the_smallest_limit_up_the_hierarchy_counts(tmp_path: Path) -> None:
    files = {"a/memory.max": str(4 * GIB), "a/b/memory.max": "max", "a/b/c/memory.max": str(16 * GIB)}
    assert limit_bytes(version2(tmp_path, "/a/b/c", files)) == 4 * GIB


def test_the_level_with_the_least_room_decides_what_is_available(tmp_path: Path) -> None:
    files = {
        "a/memory.max": str(10 * GIB),
        "a/memory.current": str(9 * GIB),
        "a/b/memory.max": str(4 * GIB),
        "a/b/memory.current": str(1 * GIB),
    }
    assert available_bytes(version2(tmp_path, "/a/b", files)) == 1 * GIB


def test_a_limit_above_the_physical_memory_has_no_effect(tmp_path: Path) -> None:
    root = version2(tmp_path, "/pod", {"pod/memory.max": str(999 * GIB)})
    assert (limit_bytes(root), available_bytes(root)) == (64 * GIB, 60 * GIB)


def test_a_group_that_holds_more_than_its_limit_has_nothing_left(tmp_path: Path) -> None:
    files = {"pod/memory.max": str(2 * GIB), "pod/memory.current": str(3 * GIB)}
    assert available_bytes(version2(tmp_path, "/pod", files)) == 0


def test_a_group_of_version_1_counts_with_the_groups_below_it(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/docker/c/memory.limit_in_bytes": str(6 * GIB),
        "memory/docker/c/memory.usage_in_bytes": str(4 * GIB),
        "memory/docker/c/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}\ntotal_active_file {GIB}\n",
    }
    root = version1(tmp_path, "/docker/c", files)
    assert limit_bytes(root) == 6 * GIB
    assert available_bytes(root) == 4 * GIB


def test_a_container_that_sees_the_hosts_path_finds_its_group_at_the_mounts_top(tmp_path: Path) -> None:
    root = version1(tmp_path, "/docker/c", {"memory/memory.limit_in_bytes": str(GIB)}, inside="/docker/c")
    assert limit_bytes(root) == GIB


def test_a_group_below_a_containers_own_is_found_under_the_mount(tmp_path: Path) -> None:
    files = {"memory.max": str(8 * GIB), "ray/memory.max": str(2 * GIB)}
    assert limit_bytes(version2(tmp_path, "/kube/pod/ray", files, inside="/kube/pod")) == 2 * GIB


@pytest.mark.parametrize("path", ["/../../other", "/elsewhere"])
def test_a_group_outside_of_what_is_mounted_is_held_by_the_mounts_top(tmp_path: Path, path: str) -> None:
    files = {"memory.max": str(3 * GIB), "other/memory.max": "1"}
    assert limit_bytes(version2(tmp_path, path, files, inside="/kube")) == 3 * GIB


def test_a_name_with_spaces_and_colons_is_read_as_it_is(tmp_path: Path) -> None:
    root = version2(tmp_path, "/my pod:1", {"memory.max": "max", "my pod:1/memory.max": str(GIB)})
    assert limit_bytes(root) == GIB


def test_a_mount_whose_name_is_escaped_is_found(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "30 23 0:26 / /sys/fs/my\\040groups rw - cgroup2 cgroup2 rw\n",
        "sys/fs/my groups/memory.max": str(GIB),
    }
    assert limit_bytes(write(tmp_path, files)) == GIB


def test_this_machines_own_numbers_fit_together() -> None:
    assert 0 < available_bytes() < limit_bytes() <= psutil.virtual_memory().total
