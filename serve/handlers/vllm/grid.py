"""How a checkpoint sees pictures, by the files of its processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from serve.settings.pictures import PictureGrid

#: ``model_type`` of Qwen's models that see, and in which numbers they point
#: (https://github.com/QwenLM/Qwen3-VL/blob/main/cookbooks/2d_grounding.ipynb).
COORDINATES: dict[str, Literal["pixels", "thousandths"]] = {
    "qwen2_vl": "thousandths",
    "qwen2_5_vl": "pixels",
    "qwen3_vl": "thousandths",
    "qwen3_vl_moe": "thousandths",
}


def grid_of(folder: Path) -> PictureGrid | None:
    """The grid of the checkpoint in ``folder``; none for families other than Qwen's, and where its files do not say
    it."""
    kind = _read(folder / "config.json").get("model_type")
    if kind not in COORDINATES:
        return None
    about = _read(folder / "preprocessor_config.json") or _read(folder / "processor_config.json").get(
        "image_processor", {}
    )
    size = about.get("size") or {}
    try:
        return PictureGrid(
            patch=int(about["patch_size"]),
            merge=int(about["merge_size"]),
            min_pixels=int(about.get("min_pixels") or size["shortest_edge"]),
            max_pixels=int(about.get("max_pixels") or size["longest_edge"]),
            coordinates=COORDINATES[kind],
        )
    except (KeyError, TypeError, ValueError):
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
