"""llama.cpp's own quantization."""

from __future__ import annotations

import os
from pathlib import Path

import llama_cpp

#: Type of a quantized file -> llama.cpp's number for it (``llama_ftype`` of llama.h).
QUANTIZATIONS: dict[str, int] = {
    "f32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "f16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "bf16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q6_k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "q5_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "q4_1": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_1,
    "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
}


def quantize(source: Path, target: Path, kind: str) -> None:
    """Write ``source``, a GGUF file, as ``target`` in another type.

    Raises:
        ValueError: llama.cpp cannot do it; its own words go to standard error.
    """
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = QUANTIZATIONS[kind]
    parameters.nthread = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    parameters.allow_requantize = True
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), parameters):
        raise ValueError(f"llama.cpp cannot write {source.name} as {kind}")
