"""What a model will take of its node's memory, estimated from its file and its settings before it is loaded.

How close it comes is measured in docs/loading.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from serve.models.place import bytes_in
from serve.models.wanted import declared_bytes
from serve.settings.model import ModelSettings

#: What a replica's process holds before its model is loaded: Python, Ray, Serve, the engine's libraries.
PROCESS_BYTES = 160 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that one replica will hold for its model.

    Attributes:
        weights: the file, which counts in full where it is mapped: a model is slow when it is not in memory.
        cache: keys and values, or states, of all sequences; none while that is not known, because the file is not
            here yet.
        compute: what the engine needs beside them, when every sequence is full.
    """

    weights: int = 0
    cache: int | None = 0
    compute: int = 0

    @property
    def model(self) -> int:
        """What goes when the model is unloaded."""
        return self.weights + (self.cache or 0) + self.compute

    @property
    def total(self) -> int:
        """All of it, the process included."""
        return self.model + PROCESS_BYTES


#: Estimates a model of one handler; the path is its file's, or none while it is not here.
Estimator: TypeAlias = Callable[[ModelSettings, Path | None], Need]

#: Handler name -> where its estimator is. Modules are imported when they are asked; none may import an engine, since
#: a config is checked on machines that have none.
ESTIMATORS: dict[str, str] = {
    "llamacpp": "serve.residency.llamacpp:estimate",
    "vllm": "serve.residency.vllm:estimate",
    "e5": "serve.residency.need:estimate_e5",
}


def need_of(settings: ModelSettings, file: Path | None) -> Need:
    """What one replica of a model needs. A handler that has no estimator needs what its weights have.

    Args:
        file: what the engine is to load, a file or a folder; none while it is not here.

    Raises:
        NotGguf: its file is not what it should be.
        OSError: its file cannot be read.
    """
    if settings.handler not in ESTIMATORS:
        return Need(weights=weights_bytes(settings, file))
    module, _, attribute = ESTIMATORS[settings.handler].partition(":")
    estimator: Estimator = getattr(importlib.import_module(module), attribute)
    return estimator(settings, file)


def weights_bytes(settings: ModelSettings, file: Path | None) -> int:
    """The size of a model's weights: as its settings state it, or as it lies here; 0 where neither is known."""
    declared = declared_bytes(settings.weights) if settings.weights else None
    return declared if declared is not None else bytes_in(file) if file else 0


def estimate_e5(settings: ModelSettings, file: Path | None) -> Need:
    """multilingual-e5-small in 4 bits, whose weights are in its package."""
    return Need(weights=80 * 1024 * 1024)
