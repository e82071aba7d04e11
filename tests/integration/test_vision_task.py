"""The vision task over a small Qwen3-VL on vLLM, with a gateway in this process: real HTTP, processor and answers."""

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

from tests.grounding import TWO_BOXES, confidences
from tests.pictures import file_of, plain, url_of
from tests.unit.tasks.group import TaskGroup, task_group
from tests.vllm import byte_tokenizer, loaded, save_qwen3_vl, settings_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

ANALYZE = "/v1/vision/analyze"
PHOTO = file_of(plain("red", (1000, 700)), "jpeg")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def group(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TaskGroup]:
    folder: Path = tmp_path_factory.mktemp("qwen3vl") / "tiny-qwen3-vl"
    await asyncio.to_thread(save_qwen3_vl, folder, byte_tokenizer())
    gateway = tmp_path_factory.mktemp("gateway")
    seer = settings_of("seer", folder, images=4, context=2048)
    async with loaded(seer) as handler, task_group(gateway, "vision", handler) as found:
        yield found


async def test_what_is_located_is_within_the_callers_picture(group: TaskGroup) -> None:
    form = {"task": "locate", "query": "the red square", "annotate": "true", "max_tokens": "200"}
    answer = await group.client.post(ANALYZE, data=form, files={"image": ("a.jpg", PHOTO, "image/jpeg")})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    # The tiny processor sees at most 128 x 128 pixels.
    assert found["images"] == [
        {"index": 0, "source": 0, "width": 1000, "height": 700, "seen": {"width": 128, "height": 96}}
    ]
    assert found["model"] == "seer" and found["usage"]["completion_tokens"] > 0
    # Random weights, but bound to the form by the grammar.
    assert found["text"].lstrip().startswith("{")
    for one in found["objects"]:
        left, top, right, bottom = one["box"]
        assert 0 <= left < right <= 1000 and 0 <= top < bottom <= 700
    drawn = Image.open(io.BytesIO(base64.b64decode(found["annotated"][0].partition(",")[2])))
    assert (drawn.format, drawn.size) == ("PNG", (1000, 700))


async def test_a_picture_is_as_many_tokens_as_the_task_made_it(group: TaskGroup) -> None:
    """128 x 96 pixels are 4 x 3 tokens: vLLM's own processor did not scale the picture again."""
    lengths = []
    for images in ([url_of(PHOTO, "image/jpeg")], [url_of(PHOTO, "image/jpeg")] * 2):
        body = {"images": images, "query": "What is it?", "max_tokens": 4}
        lengths.append((await group.client.post(ANALYZE, json=body)).json()["usage"]["prompt_tokens"])
    assert lengths[1] - lengths[0] == 2 + 4 * 3


async def test_what_is_seen_matters(group: TaskGroup) -> None:
    texts = []
    for colour in ("red", "blue", "red"):
        body = {"task": "ocr", "images": [url_of(file_of(plain(colour)))], "max_tokens": 96}
        texts.append((await group.client.post(ANALYZE, json=body)).json()["text"])
    assert texts[0] == texts[2] != texts[1]


async def test_data_follows_its_schema(group: TaskGroup) -> None:
    schema = {"type": "object", "properties": {"red": {"type": "boolean"}}, "required": ["red"]}
    body = {"task": "extract", "schema": schema, "images": [url_of(PHOTO, "image/jpeg")], "max_tokens": 300}
    found = (await group.client.post(ANALYZE, json=body)).json()
    assert found["truncated"] or isinstance(found["data"]["red"], bool)


async def test_pictures_in_chats_are_held_to_the_same(group: TaskGroup) -> None:
    def asked(url: str) -> dict[str, Any]:
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
        return {"model": "seer", "messages": [{"role": "user", "content": parts}], "max_tokens": 4}

    answer = await group.client.post("/v1/chat/completions", json=asked(url_of(PHOTO, "image/jpeg")))
    assert answer.status_code == 200 and answer.json()["usage"]["prompt_tokens"] > 12
    for url in ("https://127.0.0.1/a.png", "https://169.254.169.254/latest/meta-data"):
        refused = await group.client.post("/v1/chat/completions", json=asked(url))
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "invalid_image"
        assert refused.json()["error"]["param"] == "messages[0].content[0]"


async def test_its_tokens_tell_how_sure_it_is_of_the_boxes_that_a_grammar_binds_it_to(group: TaskGroup) -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": url_of(PHOTO, "image/jpeg")}},
        {"type": "text", "text": "Where?"},
    ]
    # A random model would write whitespace for ever where its schema allows it.
    spaces = dict.fromkeys(byte_tokenizer()(" \n\t\r")["input_ids"], -100)
    body = {"model": "seer", "messages": [{"role": "user", "content": parts}], "logit_bias": spaces, **TWO_BOXES}
    answer = await group.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    first, second = confidences(answer.json())
    assert first is not None and second is not None
    assert 0 < first < 1 and 0 < second < 1
