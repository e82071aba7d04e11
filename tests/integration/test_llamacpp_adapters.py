"""Adapters on the llama.cpp handler with real SmolLM2: many at once, coming and going, and garbage. Without Ray."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from serve.adapters.files import CONFIG, WEIGHTS
from serve.errors import AdapterNotFound, AdapterRefused, Unavailable
from serve.handlers.llamacpp.handler import LlamaCppHandler
from serve.protocol.events import Event, TokenLogprob
from serve.protocol.requests import ChatRequest, CompletionRequest
from serve.settings.model import ModelSettings
from tests.llamacpp import CAPITAL, COUNT, chat, completion, deltas, events_of, loaded, stream, text, until, usage
from tests.peft import SURE, random_adapter, save, smollm2_modules, tensors

PROMPT = "The capital of France is"
Request = ChatRequest | CompletionRequest


def on(adapter: str | None, request: Request | None = None, **fields: Any) -> Any:
    """A request on an adapter, or on the model alone; of as many tokens as these adapters are sure of."""
    asked = request or completion(PROMPT, **{"max_tokens": 5, **fields})
    return asked.model_copy(update={"model": f"m:{adapter}" if adapter else "m"})


def logprobs(events: list[Event]) -> list[TokenLogprob]:
    return [one for delta in deltas(events) for one in delta.logprobs or ()]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm2_settings: ModelSettings) -> list[Path]:
    """Three adapters that change much; their GGUF files go to a folder of this test."""
    assert smollm2_settings.weights is not None
    monkeypatch.setattr(
        "serve.handlers.llamacpp.handler.model_folder", lambda model, root: tmp_path / "models" / model
    )
    return [random_adapter(tmp_path / f"peft-{seed}", seed=seed) for seed in SURE]


@pytest_asyncio.fixture
async def handler(smollm2_settings: ModelSettings, folders: list[Path]) -> AsyncIterator[LlamaCppHandler]:
    """A handler with two adapters."""
    async with loaded(smollm2_settings, context=256, slots=4) as found:
        await found.add_adapter("a", folders[0])
        await found.add_adapter("b", folders[1])
        yield found


async def test_the_model_and_two_adapters_answer_differently_and_each_as_if_alone(handler: LlamaCppHandler) -> None:
    names = [None, "a", "b"]
    alone = [text(await events_of(handler, on(name))) for name in names]
    assert len(set(alone)) == 3
    together = await asyncio.gather(*(events_of(handler, on(name)) for name in names * 3))
    assert [text(events) for events in together] == alone * 3


async def test_the_model_alone_says_to_the_last_bit_what_it_says_without_adapters(
    smollm2_settings: ModelSettings, folders: list[Path]
) -> None:
    asked = completion(PROMPT, logprobs=5)
    async with loaded(smollm2_settings, context=256, slots=4) as handler:
        before = logprobs(await events_of(handler, asked))
    async with loaded(smollm2_settings, context=256, slots=4) as handler:
        await handler.add_adapter("a", folders[0])
        changed = logprobs(await events_of(handler, on("a", asked)))
        after = logprobs(await events_of(handler, asked))
    assert before == after != changed


async def test_no_cache_is_shared_between_adapters(handler: LlamaCppHandler) -> None:
    prompt = completion(COUNT * 3, max_tokens=1)
    assert usage(await events_of(handler, prompt)).cached_tokens == 0
    assert usage(await events_of(handler, on("a", prompt))).cached_tokens == 0
    assert usage(await events_of(handler, on("b", prompt))).cached_tokens == 0
    for name in (None, "a", "b"):
        assert usage(await events_of(handler, on(name, prompt))).cached_tokens > 20


async def test_streams_of_several_adapters_move_together(handler: LlamaCppHandler) -> None:
    order: list[str | None] = []

    async def follow(name: str | None) -> None:
        async for _ in stream(handler, on(name, max_tokens=60, logit_bias={"2": -100})):
            order.append(name)

    await asyncio.gather(*map(follow, (None, "a", "b")))
    ends = [len(order) - 1 - order[::-1].index(name) for name in (None, "a", "b")]
    assert set(order[: min(ends)]) == {None, "a", "b"}


async def test_choices_schemas_and_chats_run_on_an_adapter(handler: LlamaCppHandler) -> None:
    many = await events_of(handler, on("a", completion(PROMPT, n=3, temperature=1.0, seed=1)))
    assert all(text(many, choice) for choice in range(3))
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["one", "two"]}}}
    answer = text(await events_of(handler, on("a", chat(CAPITAL, response_format=form))))
    assert json.loads(answer) in ("one", "two")


async def test_giving_up_on_one_adapter_does_not_disturb_another(handler: LlamaCppHandler) -> None:
    expected = text(await events_of(handler, on("b")))
    left = stream(handler, on("a", max_tokens=200))
    await anext(left)
    running = asyncio.create_task(events_of(handler, on("b", max_tokens=40)))
    await left.aclose()
    assert text(await running).startswith(expected)


async def test_a_full_cache_makes_adapters_wait_and_not_fail(
    smollm2_settings: ModelSettings, folders: list[Path]
) -> None:
    async with loaded(smollm2_settings, context=64, slots=4) as handler:
        for name, folder in zip("abc", folders, strict=True):
            await handler.add_adapter(name, folder)
        asked = [on(name, max_tokens=50) for name in (None, "a", "b", "c") * 2]
        assert all(text(events) for events in await asyncio.gather(*(events_of(handler, one) for one in asked)))


async def test_an_adapter_removed_under_way_ends_its_requests_first(
    handler: LlamaCppHandler, folders: list[Path]
) -> None:
    expected = text(await events_of(handler, on("a")))
    running = stream(handler, on("a", max_tokens=60))
    said = text(list(await anext(running)))
    adapter = handler._adapters["a"]
    await handler.remove_adapter("a")
    with pytest.raises(AdapterNotFound):
        await events_of(handler, on("a"))
    async for events in running:
        said += text(list(events))
    assert said.startswith(expected) and len(said) > len(expected)
    await until(lambda: adapter.pointer is None)
    await handler.add_adapter("a", folders[0])
    assert text(await events_of(handler, on("a"))) == expected


async def test_an_idle_adapter_is_freed_at_once_and_its_memory_counted(handler: LlamaCppHandler) -> None:
    await events_of(handler, on("a"))
    adapter, before = handler._adapters["a"], handler.load_now().memory_bytes
    await handler.remove_adapter("a")
    await until(lambda: adapter.pointer is None)
    assert before - handler.load_now().memory_bytes == adapter.size > 0
    assert text(await events_of(handler, on(None)))


async def test_adapters_come_and_go_under_load_and_every_answer_is_that_of_its_content(
    handler: LlamaCppHandler, folders: list[Path]
) -> None:
    await handler.add_adapter("c", folders[2])
    expected = {name: text(await events_of(handler, on(name))) for name in (None, "a", "b", "c")}
    same = {f"{seed}-{turn}": expected["abc"[seed]] for turn in range(4) for seed in range(3)}
    wrong: list[str] = []
    stop = asyncio.Event()

    async def ask(name: str | None) -> None:
        while not stop.is_set():
            if text(await events_of(handler, on(name))) != expected[name]:
                wrong.append(f"{name} changed")

    asking = [asyncio.create_task(ask(name)) for name in (None, "a", "b")]
    for name, said in same.items():
        await handler.add_adapter(name, folders[int(name[0])])
        if text(await events_of(handler, on(name))) != said:
            wrong.append(name)
        await handler.remove_adapter(name)
    stop.set()
    await asyncio.gather(*asking)
    assert wrong == []


async def test_an_adapter_that_is_loaded_while_its_model_leaves_does_not_meet_the_next_one(
    smollm2_settings: ModelSettings, folders: list[Path]
) -> None:
    async with loaded(smollm2_settings, context=256, slots=4) as handler:
        adding = asyncio.create_task(handler.add_adapter("a", folders[0]))
        await asyncio.sleep(0)
        await handler.unload()
        await handler.load()
        with pytest.raises(Unavailable):
            await adding
        with pytest.raises(AdapterNotFound):
            await events_of(handler, on("a"))
        await handler.add_adapter("a", folders[0])
        assert text(await events_of(handler, on("a"))) != text(await events_of(handler, on(None)))


async def test_a_converted_adapter_is_kept_and_found_again(
    handler: LlamaCppHandler, folders: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "models" / "smollm2-135m" / "adapters"
    before = {path: path.stat().st_ino for path in kept.iterdir()}
    await handler.add_adapter("a again", folders[0])
    assert {path: path.stat().st_ino for path in kept.iterdir()} == before
    assert all(path.suffix == ".gguf" for path in before) and len(before) == 2


# Garbage.

GARBAGE: dict[str, dict[str, Any]] = {
    "another base": {"weights": tensors({"model.layers.0.self_attn.q_proj": (896, 896)})},
    "too many layers": {"weights": tensors(smollm2_modules([30]))},
    "no such module": {"weights": tensors({"model.layers.0.mlp.router": (576, 576)})},
    "a norm": {"weights": tensors({"model.norm": (576, 1)})},
    "the tied output": {"weights": tensors({"lm_head": (576, 49152)})},
    "not numbers": {"weights": {k: v * np.float32("nan") for k, v in tensors(smollm2_modules([0])).items()}},
    "integers": {"weights": {k: v.astype(np.int32) for k, v in tensors(smollm2_modules([0])).items()}},
    "half a pair": {"weights": {k: v for k, v in tensors(smollm2_modules([0])).items() if "lora_A" in k}},
    "another rank": {"weights": tensors(smollm2_modules([0])), "r": 8},
    "a huge rank": {"weights": tensors(smollm2_modules([0]), rank=1024), "r": 1024},
    "no rank": {"weights": tensors(smollm2_modules([0])), "r": 0},
    "DoRA": {"weights": tensors(smollm2_modules([0])), "use_dora": True},
    "numbers too large": {
        "weights": {k: np.full_like(v, 3e38) for k, v in tensors(smollm2_modules([0])).items()},
        "lora_alpha": 9e5,
    },
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_is_refused_and_the_model_answers_on(
    handler: LlamaCppHandler, tmp_path: Path, kind: str
) -> None:
    expected = text(await events_of(handler, on("a")))
    fields = dict(GARBAGE[kind])
    folder = save(tmp_path / "garbage", fields.pop("weights"), **fields)
    with pytest.raises(AdapterRefused):
        await handler.add_adapter("x", folder)
    with pytest.raises(AdapterNotFound):
        await events_of(handler, on("x"))
    assert text(await events_of(handler, on("a"))) == expected


async def test_bytes_changed_at_random_never_end_the_process(handler: LlamaCppHandler, tmp_path: Path) -> None:
    chance = random.Random(7)
    folder = save(tmp_path / "fuzzed", tensors(smollm2_modules([0]), seed=3))
    whole = {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    refused = 0
    for turn in range(60):
        name = chance.choice([CONFIG, WEIGHTS])
        content = bytearray(whole[name][: chance.choice([len(whole[name]), chance.randrange(len(whole[name]))])])
        for _ in range(chance.randrange(4)):
            if content:
                content[chance.randrange(min(len(content), 4000))] = chance.randrange(256)
        (folder / name).write_bytes(content)
        try:
            await handler.add_adapter(f"x{turn}", folder)
            await events_of(handler, on(f"x{turn}", max_tokens=2))
            await handler.remove_adapter(f"x{turn}")
        except AdapterRefused:
            refused += 1
        (folder / name).write_bytes(whole[name])
    assert refused > 20
    assert text(await events_of(handler, on("a")))
