"""Sizes of pictures against Qwen's own processor, whose module needs torch and torchvision."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from serve.pictures.resize import MAX_RATIO, smart_size
from serve.settings.pictures import PictureGrid

GRIDS = st.builds(
    PictureGrid,
    patch=st.sampled_from([14, 16]),
    merge=st.just(2),
    min_pixels=st.sampled_from([32 * 32, 3136, 65_536]),
    max_pixels=st.sampled_from([128 * 128, 1_003_520, 12_845_056, 16_777_216]),
    coordinates=st.just("pixels"),
)


def test_sizes_are_those_of_qwens_own_processor() -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    @given(st.integers(1, 6000), st.integers(1, 6000), GRIDS)
    def alike(width: int, height: int, grid: PictureGrid) -> None:
        assume(max(width, height) <= MAX_RATIO * min(width, height) and grid.min_pixels <= grid.max_pixels)
        high, wide = smart_resize(height, width, grid.step, grid.min_pixels, grid.max_pixels)
        assert smart_size(width, height, grid) == (wide, high)

    alike()
