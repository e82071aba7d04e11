"""The vision task on real Ray Serve, over a small Qwen3-VL on vLLM: random weights, its real processor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.group import Group, gateway, model_application, task_application
from tests.pictures import file_of, plain, url_of
from tests.vllm import ENGINE, byte_tokenizer, save_qwen3_vl, settings_of

ANALYZE = "/v1/vision/analyze"
PHOTO = file_of(plain("red", (1000, 700)), "jpeg")


#: Both do work of their own.
BUSY: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0.1}, "graceful_shutdown_timeout_s": 5}


def seer(folder: Path) -> dict[str, Any]:
    """The model's application."""
    settings = settings_of("seer", folder)
    assert settings.weights is not None
    weights = settings.weights.model_dump(mode="json", exclude_none=True)
    engine = {**ENGINE, "images": 4, "context": 2048}
    args = {"id": "seer", "handler": "vllm", "weights": weights, "engine": engine}
    return model_application(args, **BUSY, user_config={"sampling": {"max_tokens": 48}})


@pytest.mark.timeout(400)
async def test_pictures_are_seen_through_the_whole_group(group: Group, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-qwen3-vl"
    await asyncio.to_thread(save_qwen3_vl, folder, byte_tokenizer())
    task = task_application("vision", **BUSY)
    states = {"seer": "ready"}
    await asyncio.to_thread(group.deploy, gateway(), seer(folder), task, seconds=200, states=states)
    async with httpx.AsyncClient(base_url=group.url, timeout=120) as client:
        await asyncio.to_thread(group.until, lambda: _tasks(group) == {"vision": "ready"}, "the task is ready")
        listed = (await client.get("/v1/models/seer")).json()
        assert listed["capabilities"]["vision"] and listed["pictures"]["coordinates"] == "thousandths"
        form = {"task": "locate", "query": "the red square", "annotate": "true", "max_tokens": "300"}
        answer = await client.post(ANALYZE, data=form, files={"image": ("a.jpg", PHOTO, "image/jpeg")})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["model"] == "seer" and found["usage"]["completion_tokens"] > 0
        # The tiny processor sees at most 128 x 128 pixels.
        assert found["images"] == [
            {"index": 0, "source": 0, "width": 1000, "height": 700, "seen": {"width": 128, "height": 96}}
        ]
        assert found["text"].lstrip().startswith("{") and len(found["annotated"]) == 1
        for one in found["objects"]:
            left, top, right, bottom = one["box"]
            assert 0 <= left < right <= 1000 and 0 <= top < bottom <= 700
        both = [url_of(PHOTO, "image/jpeg"), url_of(file_of(plain("blue")))]
        compared = await client.post(ANALYZE, json={"task": "compare", "images": both, "max_tokens": 48})
        assert compared.status_code == 200 and len(compared.json()["images"]) == 2
        again, other = [
            (await client.post(ANALYZE, json={"task": "ocr", "images": [url], "max_tokens": 96})).json()["text"]
            for url in both
        ]
        assert again != other  # what is seen matters
        inner = await client.post(ANALYZE, json={"images": ["https://169.254.169.254/latest/meta-data"]})
        assert inner.status_code == 400 and inner.json()["error"]["param"] == "images[0]"
        parts = [{"type": "image_url", "image_url": {"url": both[0]}}, {"type": "text", "text": "What is it?"}]
        body = {"model": "seer", "messages": [{"role": "user", "content": parts}], "max_tokens": 4}
        chatted = await client.post("/v1/chat/completions", json=body)
        assert chatted.status_code == 200 and chatted.json()["usage"]["prompt_tokens"] > 12
        parts[0] = {"type": "image_url", "image_url": {"url": "https://127.0.0.1/a.png"}}
        refused = await client.post("/v1/chat/completions", json=body)
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "invalid_image"
    await asyncio.to_thread(group.deploy, gateway())


def _tasks(group: Group) -> dict[str, str]:
    return {name: one["state"] for name, one in group.client.get("/v1/health").json()["tasks"].items()}
