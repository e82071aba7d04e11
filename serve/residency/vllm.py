"""The memory of a checkpoint on vLLM, as far as it is the node's own; what is on GPUs is for vLLM to count."""

from __future__ import annotations

from pathlib import Path

from serve.residency.need import Need, weights_bytes
from serve.settings.engines import VllmEngine
from serve.settings.model import ModelSettings

#: What vLLM and torch hold in the replica and in the engine's process, before any weights; seen on Linux with vLLM
#: 0.32.0 for processors.
_LIBRARIES_BYTES = 1200 * 1024 * 1024


def estimate(settings: ModelSettings, file: Path | None) -> Need:
    """What a replica needs in the memory of its node."""
    assert isinstance(settings.engine, VllmEngine)
    if settings.engine.device == "gpu":
        return Need(compute=_LIBRARIES_BYTES)
    return Need(
        weights=weights_bytes(settings, file),
        # Where the settings do not say, vLLM takes what it finds free when it starts.
        cache=settings.engine.cache_bytes,
        compute=_LIBRARIES_BYTES,
    )
