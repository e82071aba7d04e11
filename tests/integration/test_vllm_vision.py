"""Pictures on vLLM: a small Qwen3-VL with random weights and its real image processor."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from serve.errors import InvalidRequest
from serve.handlers.vllm.handler import VllmHandler
from serve.settings.pictures import PictureGrid
from tests.llamacpp import chat, events_of, text, usage
from tests.vllm import loaded, save_qwen3_vl, settings_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def handler(
    qwen_thinking_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[VllmHandler]:
    folder: Path = tmp_path_factory.mktemp("qwen3vl") / "tiny-qwen3-vl"
    await asyncio.to_thread(save_qwen3_vl, folder, qwen_thinking_tokenizer)
    async with loaded(settings_of("seer", folder, images=2)) as found:
        yield found


def picture(colour: str, size: tuple[int, int] = (64, 64), kind: str = "png") -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    data = base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}}


def asked(*parts: dict[str, Any], **fields: Any) -> Any:
    return chat([{"role": "user", "content": [*parts, {"type": "text", "text": "What is it?"}]}], **fields)


async def test_it_says_that_it_sees(handler: VllmHandler) -> None:
    assert handler.capabilities.vision


async def test_a_picture_is_part_of_the_prompt(handler: VllmHandler) -> None:
    without = await events_of(handler, asked())
    seen = await events_of(handler, asked(picture("red")))
    assert usage(seen).prompt_tokens == usage(without).prompt_tokens + 2 + 4
    larger = await events_of(handler, asked(picture("red", (128, 128), "jpeg")))
    assert usage(larger).prompt_tokens == usage(without).prompt_tokens + 2 + 16


async def test_what_is_seen_matters_and_is_seen_alike_each_time(handler: VllmHandler) -> None:
    red, blue, again = [
        [one.logprobs for one in await events_of(handler, asked(picture(colour), logprobs=True, max_tokens=2)) if
         hasattr(one, "logprobs")]
        for colour in ("red", "blue", "red")
    ]  # fmt: skip
    assert red == again != blue


async def test_two_pictures_are_seen_and_three_are_refused(handler: VllmHandler) -> None:
    assert text(await events_of(handler, asked(picture("red"), picture("blue"))))
    with pytest.raises(InvalidRequest, match="at most 2 images") as raised:
        await events_of(handler, asked(picture("red"), picture("blue"), picture("green")))
    assert raised.value.param == "messages[0].content[2]"


async def test_its_grid_is_that_of_its_own_processor(handler: VllmHandler) -> None:
    assert handler.capabilities.pictures == PictureGrid(16, 2, 32 * 32, 128 * 128, "thousandths")


async def test_a_turned_photo_is_seen_upright(handler: VllmHandler) -> None:
    without = usage(await events_of(handler, asked())).prompt_tokens
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (128, 32), "red").save(file, "jpeg", exif=exif)
    upright = io.BytesIO()
    Image.new("RGB", (32, 128), "red").save(upright, "png")
    for content in (file, upright):
        url = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
        events = await events_of(handler, asked({"type": "image_url", "image_url": {"url": url}}))
        assert usage(events).prompt_tokens == without + 2 + 4


@pytest.mark.parametrize(
    "data",
    [
        "data:image/png;base64,AAAA",
        "data:image/png;base64,%%%",
        "data:image/png;base64,",
        "http://example.com/a.png",
        "https://127.0.0.1/a.png",
        "file:///etc/passwd",
    ],
)
async def test_a_picture_that_is_none_is_the_requests_fault(handler: VllmHandler, data: str) -> None:
    with pytest.raises(InvalidRequest, match="Picture 0 cannot be taken") as raised:
        await events_of(handler, asked({"type": "image_url", "image_url": {"url": data}}))
    assert raised.value.param == "messages[0].content[0]"
    assert text(await events_of(handler, asked(picture("red"))))
