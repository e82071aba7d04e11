"""The node: processor, memory, GPUs, and what the system grants a process."""

from __future__ import annotations

import platform
import resource
import shutil
from pathlib import Path

from serve.devices.node import Node
from serve.launch.doctor.check import Check
from serve.models.wanted import declared_bytes
from serve.settings.config import Application, GroupConfig
from serve.settings.engines import LlamaCppEngine
from serve.settings.model import ModelSettings

#: What Ray asks for, and what it raises the limit to by itself where it may.
OPEN_FILES = 8192
_GIB = 1 << 30
#: Ray's default: the share of memory that its object store takes.
_OBJECT_STORE = 0.3

#: Vendor -> what makes llama.cpp's build use its GPUs (https://github.com/ggml-org/llama.cpp/blob/master/docs/build.md).
_CMAKE = {"nvidia": "-DGGML_CUDA=on", "amd": "-DGGML_HIP=on", "apple": "-DGGML_METAL=on"}


def gib(size: float) -> str:
    """``size`` bytes for a person."""
    return f"{size / _GIB:.1f} GiB"


def machine(node: Node, group: GroupConfig | None) -> list[Check]:
    """Checks of the node against what the config asks of it."""
    checks = [cores(node, group), memory(node, group), llama(node), gpu(node, group)]
    checks.append(open_files(*resource.getrlimit(resource.RLIMIT_NOFILE)))
    if platform.system() == "Linux":
        checks.append(shared_memory(Path("/dev/shm"), node.memory_limit))  # noqa: S108 - Ray's object store is there
    return checks


def cores(node: Node, group: GroupConfig | None) -> Check:
    """Whether Ray will find the processors that the replicas ask for."""
    here = node.processor
    limit = "" if here.quota is None else f", limited to {here.quota:g} by the container"
    seen = f"{here.cores} usable{limit}; {here.model}; {', '.join(here.features) or 'no known instruction sets'}"
    asked = sum(map(_asked_cores, group.file.applications)) if group else 0.0
    if asked > here.cores:
        return Check(
            "processor",
            "fix",
            f"{seen}; the config's replicas ask for {asked:g}",
            "lower num_cpus in ray_actor_options, or start fewer replicas; they wait for processors otherwise",
        )
    if node.system.endswith("x86_64") and "avx2" not in here.features:
        return Check("processor", "warn", f"{seen}; no AVX2", "llama.cpp and vLLM are slow here, or do not run")
    return Check("processor", "ok", seen)


def _asked_cores(application: Application) -> float:
    deployment = application.deployments[0]
    scaling = deployment.autoscaling_config
    replicas = scaling.initial_replicas if scaling else deployment.num_replicas or 1
    # Ray counts one processor for a replica that does not say.
    asked = deployment.ray_actor_options.num_cpus
    return replicas * (1.0 if asked is None else asked)


def memory(node: Node, group: GroupConfig | None) -> Check:
    """Whether the weights fit under the limit. Replicas of one node share what they map, so each file counts once."""
    seen = f"{gib(node.memory_available)} of {gib(node.memory_limit)} available"
    in_memory = [model for model in group.models if not _on_gpu(model)] if group else []
    weights = sum(declared_bytes(model.weights) or 0 for model in in_memory if model.weights is not None)
    if not weights:
        return Check("memory", "ok", seen)
    seen += f"; the models' files have {gib(weights)}, caches and Ray come on top"
    if weights > node.memory_limit:
        return Check("memory", "fix", seen, "take models out of the config, or give the container more memory")
    if weights > 0.7 * node.memory_limit:
        return Check(
            "memory", "warn", seen, "little is left for caches: lower context and slots, or use fewer models"
        )
    return Check("memory", "ok", seen)


def llama(node: Node) -> Check:
    """Whether llama.cpp can be loaded and computes, and what it was built with."""
    if node.llama is None:
        options = _CMAKE[node.gpus.found[0].vendor] if node.gpus.found else ""
        return Check("llama.cpp", "fix", node.llama_fault or "", f"build it here: {_rebuild(options)}")
    offload = "with" if node.llama.gpu_offload else "without"
    built_for = node.llama.system_info.replace(" = 1", "").replace(" | ", " ")
    return Check("llama.cpp", "ok", f"llama-cpp-python {node.llama.version}, {offload} GPU support; {built_for}")


def gpu(node: Node, group: GroupConfig | None) -> Check:
    """Whether the GPUs that the config wants are here, and llama.cpp can use those that are."""
    found = node.gpus.found
    seen = "; ".join(
        one.name
        + ("" if one.total_bytes is None else f", {gib(one.total_bytes)}")
        + ("" if one.free_bytes is None else f", {gib(one.free_bytes)} free")
        for one in found
    )
    if node.gpus.fault is not None:
        return Check("GPU", "fix", node.gpus.fault, "repair NVIDIA's driver; `nvidia-smi` alone must work")
    wants = _wants_gpu(group) if group else []
    if not found:
        if wants:
            do = "set gpu_layers: 0 and no num_gpus, or use a node with a GPU"
            return Check("GPU", "fix", f"none found, and the config wants one for {', '.join(wants)}", do)
        return Check("GPU", "ok", "none found")
    if node.llama is not None and not node.llama.gpu_offload:
        do = f"build it for the GPU: {_rebuild(_CMAKE[found[0].vendor])}"
        return Check("GPU", "fix" if wants else "warn", f"{seen}; llama-cpp-python was built without GPU support", do)
    return Check("GPU", "ok", seen)


def _wants_gpu(group: GroupConfig) -> list[str]:
    deployed = {application.name: application.deployments[0] for application in group.file.applications}
    return [
        model.id
        for model in group.models
        if _on_gpu(model) or (deployed[model.id].ray_actor_options.num_gpus or 0) > 0
    ]


def _on_gpu(model: ModelSettings) -> bool:
    return isinstance(model.engine, LlamaCppEngine) and model.engine.gpu_layers != 0


def _rebuild(options: str) -> str:
    prefix = f'CMAKE_ARGS="{options}" ' if options else ""
    return f"{prefix}scripts/setup.sh --llama"


def open_files(soft: int, hard: int) -> Check:
    """Whether a process may have as many connections as a busy gateway holds; Ray raises the soft limit itself."""
    unlimited = hard == resource.RLIM_INFINITY
    seen = f"{soft} at once, and Ray may raise that to {'any number' if unlimited else hard}"
    if unlimited or hard >= OPEN_FILES:
        return Check("open files", "ok", seen)
    return Check("open files", "warn", seen, f"ulimit -n {OPEN_FILES}, or LimitNOFILE={OPEN_FILES} of the service")


def shared_memory(folder: Path, memory_limit: int) -> Check:
    """Whether Ray's object store, 30 % of memory, has its place in shared memory."""
    wanted = int(memory_limit * _OBJECT_STORE)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(
            "shared memory", "warn", f"{folder} cannot be looked at: {error.strerror}", "mount a tmpfs there"
        )
    seen = f"{gib(free)} free in {folder}; Ray's object store takes up to {gib(wanted)}"
    if free >= wanted:
        return Check("shared memory", "ok", seen)
    do = f"docker run --shm-size={wanted // _GIB + 1}g; else Ray's object store lies on disk"
    return Check("shared memory", "warn", seen, do)
