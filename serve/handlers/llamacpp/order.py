"""Whether llama.cpp uses weights as they lie in the file. Imports no llama.cpp."""

from __future__ import annotations

import functools

from serve.devices.processor import processor
from serve.settings.engines import LlamaCppEngine


def reorders_weights(settings: LlamaCppEngine) -> bool:
    """Whether most weights are copied into an order of llama.cpp's own, which is so for processors with AMX
    (``qtype_has_amx_kernels`` of ggml-cpu/amx/common.h). What is mapped beside the copies is only in the way."""
    return settings.gpu_layers == 0 and _has_amx()


@functools.cache
def _has_amx() -> bool:
    return "amx_int8" in processor().features
