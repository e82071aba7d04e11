"""The grid of a checkpoint, by the files of its processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve.handlers.vllm.grid import grid_of
from serve.settings.pictures import PictureGrid

SIZE = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
PROCESSOR: dict[str, Any] = {"patch_size": 16, "merge_size": 2, "size": SIZE}


def checkpoint(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("kind", "coordinates"),
    [
        ("qwen2_vl", "thousandths"),
        ("qwen2_5_vl", "pixels"),
        ("qwen3_vl", "thousandths"),
        ("qwen3_vl_moe", "thousandths"),
    ],
)
def test_each_family_points_in_its_own_numbers(kind: str, coordinates: Any, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, config={"model_type": kind}, preprocessor_config=PROCESSOR)
    assert grid_of(folder) == PictureGrid(16, 2, 65_536, 16_777_216, coordinates)


def test_older_processors_name_their_bounds_otherwise(tmp_path: Path) -> None:
    about = {"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 12_845_056}
    folder = checkpoint(tmp_path, config={"model_type": "qwen2_5_vl"}, preprocessor_config=about)
    assert grid_of(folder) == PictureGrid(14, 2, 3136, 12_845_056, "pixels")


def test_newer_processors_are_in_one_file(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, config={"model_type": "qwen3_vl"}, processor_config={"image_processor": PROCESSOR})
    assert grid_of(folder) is not None


@pytest.mark.parametrize(
    ("config", "processor"),
    [({"model_type": "llava"}, PROCESSOR), ({"model_type": "qwen3_vl"}, {}), ({}, PROCESSOR), ([], PROCESSOR),
     ({"model_type": "qwen3_vl"}, {**PROCESSOR, "patch_size": "x"})],
)  # fmt: skip
def test_what_is_not_said_is_not_guessed(config: Any, processor: Any, tmp_path: Path) -> None:
    assert grid_of(checkpoint(tmp_path, config=config, preprocessor_config=processor)) is None


def test_a_folder_without_files_has_no_grid(tmp_path: Path) -> None:
    assert grid_of(tmp_path) is None
