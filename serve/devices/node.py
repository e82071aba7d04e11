"""Everything that this node has, in one object."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from serve.devices.gpus import Gpus, gpus
from serve.devices.llama import LlamaBuild, LlamaUnusable, llama_build
from serve.devices.memory import available_bytes, limit_bytes
from serve.devices.processor import Processor, processor


@dataclass(frozen=True, slots=True)
class Node:
    """One machine, or what a container has of it.

    Attributes:
        system: operating system and architecture, such as ``Linux x86_64``.
        processor: what it is, and how much of it this process may use.
        memory_limit, memory_available: in bytes, as in ``serve.devices.memory``.
        gpus: those that were found.
        llama: the installed llama-cpp-python; none where it cannot be loaded.
        llama_fault: why not.
    """

    system: str
    processor: Processor
    memory_limit: int
    memory_available: int
    gpus: Gpus
    llama: LlamaBuild | None
    llama_fault: str | None


def node() -> Node:
    """This node; asks programs, which takes about a second."""
    llama, fault = None, None
    try:
        llama = llama_build()
    except LlamaUnusable as reason:
        fault = str(reason)
    return Node(
        system=f"{platform.system()} {platform.machine()}",
        processor=processor(),
        memory_limit=limit_bytes(),
        memory_available=available_bytes(),
        gpus=gpus(),
        llama=llama,
        llama_fault=fault,
    )
