"""The doctor's checks of a node, and its table."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serve.devices.gpus import Gpu, Gpus
from serve.devices.llama import LlamaBuild
from serve.devices.node import Node
from serve.devices.processor import Processor
from serve.launch.doctor import basics, machine
from serve.launch.doctor.check import Check, summary, table
from serve.settings.config import GroupConfig, check
from tests.unit.settings.group import at, config

GIB = 1 << 30
L4 = Gpu("nvidia", "NVIDIA L4", 22 * GIB, 21 * GIB, "550.54.15")
NODE = Node(
    system="Linux x86_64",
    processor=Processor("AMD EPYC", ("avx", "avx2"), cores=4, quota=None),
    memory_limit=16 * GIB,
    memory_available=12 * GIB,
    gpus=Gpus(),
    llama=LlamaBuild("0.3.36", False, "CPU : AVX2 = 1"),
    llama_fault=None,
)


def group(*changes: tuple[tuple[int | str, ...], Any]) -> GroupConfig:
    """The right config of the settings' tests, with something else at some paths; its last model is llama.cpp's."""
    raw = config()
    for path, value in changes:
        at(raw, *path[:-1])[path[-1]] = value
    return check(raw)


ENGINE = ("applications", 2, "args", "engine")
OPTIONS = ("applications", 2, "deployments", 0, "ray_actor_options")
BYTES = ("applications", 2, "args", "weights", "bytes")


def test_replicas_that_ask_for_more_processors_than_there_are_must_be_fixed() -> None:
    assert machine.cores(NODE, group()).state == "ok"
    found = machine.cores(NODE, group((OPTIONS, {"num_cpus": 3})))
    assert (found.state, "ask for 5" in found.seen) == ("fix", True)


def test_each_replica_of_a_deployment_counts() -> None:
    found = machine.cores(NODE, group((("applications", 2, "deployments", 0, "num_replicas"), 3)))
    assert found.state == "fix"


def test_the_containers_processor_limit_is_shown() -> None:
    node = replace(NODE, processor=Processor("AMD EPYC", ("avx2",), cores=1, quota=1.5))
    assert "1 usable, limited to 1.5 by the container" in machine.cores(node, None).seen


def test_an_x86_processor_without_avx2_is_warned_of_and_an_arm_one_is_not() -> None:
    old = replace(NODE, processor=Processor("Old", ("avx",), 4, None))
    assert machine.cores(old, None).state == "warn"
    assert machine.cores(replace(old, system="Linux aarch64"), None).state == "ok"


@pytest.mark.parametrize(("size", "state"), [(1 * GIB, "ok"), (12 * GIB, "warn"), (17 * GIB, "fix")])
def test_weights_are_held_against_the_memory_limit(size: int, state: str) -> None:
    assert machine.memory(NODE, group((BYTES, size))).state == state


def test_weights_on_a_gpu_take_no_memory() -> None:
    assert machine.memory(NODE, group((BYTES, 17 * GIB), (ENGINE, {"gpu_layers": -1}))).state == "ok"


def test_a_config_that_wants_a_gpu_where_there_is_none_must_be_fixed() -> None:
    assert machine.gpu(NODE, group()) == Check("GPU", "ok", "none found")
    for change in ((ENGINE, {"gpu_layers": -1}), (OPTIONS, {"num_gpus": 1})):
        found = machine.gpu(NODE, group(change))
        assert (found.state, "strong" in found.seen) == ("fix", True)


def test_a_gpu_that_llama_cpp_was_not_built_for_comes_with_the_command_that_builds_it() -> None:
    node = replace(NODE, gpus=Gpus((L4,)))
    found = machine.gpu(node, group())
    assert found.state == "warn"
    assert found.do.endswith('CMAKE_ARGS="-DGGML_CUDA=on" scripts/setup.sh --llama')
    assert machine.gpu(node, group((ENGINE, {"gpu_layers": 20}))).state == "fix"


def test_a_gpu_that_can_be_used_is_shown_with_its_memory() -> None:
    node = replace(NODE, gpus=Gpus((L4,)), llama=LlamaBuild("0.3.36", True, "CUDA"))
    assert machine.gpu(node, group((ENGINE, {"gpu_layers": -1}))) == Check(
        "GPU", "ok", "NVIDIA L4, 22.0 GiB, 21.0 GiB free"
    )


def test_a_driver_that_does_not_work_must_be_fixed() -> None:
    found = machine.gpu(replace(NODE, gpus=Gpus(fault="nvidia-smi failed: no driver")), None)
    assert (found.state, found.seen) == ("fix", "nvidia-smi failed: no driver")


def test_a_llama_cpp_that_cannot_be_loaded_must_be_fixed_with_its_reason() -> None:
    found = machine.llama(replace(NODE, llama=None, llama_fault="ends with signal 4"))
    assert (found.state, found.seen) == ("fix", "ends with signal 4")
    assert found.do == "build it here: scripts/setup.sh --llama"
    found = machine.llama(replace(NODE, llama=None, llama_fault="ends with signal 4", gpus=Gpus((L4,))))
    assert found.do == 'build it here: CMAKE_ARGS="-DGGML_CUDA=on" scripts/setup.sh --llama'


@pytest.mark.parametrize(
    ("soft", "hard", "state"),
    [(1024, 1_048_576, "ok"), (1024, resource.RLIM_INFINITY, "ok"), (1024, 4096, "warn"), (20_000, 20_000, "ok")],
)
def test_the_limit_of_open_files_that_ray_can_reach_decides(soft: int, hard: int, state: str) -> None:
    assert machine.open_files(soft, hard).state == state


def test_too_little_shared_memory_is_warned_of(tmp_path: Path) -> None:
    assert machine.shared_memory(tmp_path, GIB).state == "ok"
    found = machine.shared_memory(tmp_path, 1 << 60)
    assert (found.state, "--shm-size=" in found.do) == ("warn", True)
    assert machine.shared_memory(tmp_path / "none", GIB).state == "warn"


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 10, 9), "fix"), ((3, 11, 0), "ok"), ((3, 13, 9), "ok"), ((3, 14, 0), "fix"), ((4, 11, 0), "fix")],
)
def test_the_python_must_be_one_that_the_group_runs_on(version: tuple[int, int, int], state: str) -> None:
    assert basics.python(version).state == state


def test_a_missing_compiler_matters_most_while_llama_cpp_is_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert basics.compiler(llama_missing=True).state == "fix"
    assert basics.compiler(llama_missing=False).state == "warn"
    (tmp_path / "cc").touch(mode=0o755)
    assert basics.compiler(llama_missing=True).seen.startswith("no c++,")


def test_packages_that_are_not_installed_are_named(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(
        "[project]\ndependencies = ['pytest>=8', 'no-such-package-of-ours[extra]==1',"
        " \"only-there; platform_system == 'Plan9'\"]"
    )
    assert basics.missing_packages(project) == ["no-such-package-of-ours"]
    assert basics.packages(["a", "b"]).seen == "not installed: a, b"
    assert basics.packages([]).state == "ok"


def test_everything_that_the_project_needs_is_installed_here() -> None:
    assert basics.missing_packages(basics.PROJECT) == []


def test_a_table_has_a_line_for_each_check_and_one_for_each_thing_to_do() -> None:
    rows = [Check("a", "ok", "seen"), Check("long name", "fix", "other", "do this\nthen that")]
    assert table(rows).splitlines() == [
        "ok    a          seen",
        "fix   long name  other",
        "                 -> do this",
        "                 -> then that",
    ]
    assert table([]) == ""


def test_the_summary_counts_what_is_not_right() -> None:
    right, odd, wrong = Check("a", "ok", ""), Check("b", "warn", ""), Check("c", "fix", "")
    assert summary([right]) == "nothing to fix"
    assert summary([right, odd]) == "nothing to fix, 1 to look at"
    assert summary([odd, wrong, wrong]) == "2 to fix, 1 to look at"
