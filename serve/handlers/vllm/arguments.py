"""A model's settings as arguments of vLLM's engine, by the names of its ``AsyncEngineArgs``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serve.settings.engines import VLLM_NAMES, VllmEngine


def engine_arguments(model: str, folder: Path, settings: VllmEngine, max_queued: int) -> dict[str, Any]:
    """What vLLM's engine is started with.

    Args:
        model: the model's id.
        folder: its checkpoint.
        max_queued: choices that may wait beside those that generate.
    """
    stated = {argument: getattr(settings, key) for argument, key in VLLM_NAMES.items()}
    stated["limit_mm_per_prompt"] = {"image": settings.images, "video": 0} if settings.images else {}
    # On processors vLLM computes rows without an adapter with the last slot's weights, so that one stays empty.
    stated["max_loras"] = settings.adapters + (settings.device == "cpu")
    if not settings.adapters:
        del stated["max_loras"], stated["max_lora_rank"]
    return {
        **{argument: value for argument, value in stated.items() if value is not None},
        "model": str(folder),
        "served_model_name": [model],
        "enable_lora": settings.adapters > 0,
        "max_num_queued_reqs": settings.max_sequences + max_queued,
        # Several devices may be on several nodes: Ray places their workers. One is in the engine's own process.
        **({"distributed_executor_backend": "ray"} if settings.device == "gpu" and settings.devices > 1 else {}),
        **settings.extra,
    }
