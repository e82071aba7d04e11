"""Pictures on llama.cpp: a small Qwen2.5-VL with random weights and its projector, through libmtmd."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from array import array
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import llama_cpp.mtmd_cpp as M
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from serve.errors import ContextLengthExceeded, InvalidRequest, QueueFull
from serve.handlers.llamacpp.context import Context
from serve.handlers.llamacpp.engine import Engine
from serve.handlers.llamacpp.handler import LlamaCppHandler
from serve.handlers.llamacpp.library import C
from serve.handlers.llamacpp.model import Model
from serve.handlers.llamacpp.plan import Planner
from serve.handlers.llamacpp.sequence import Stream
from serve.handlers.llamacpp.sight import NobodyWaits, Sight
from serve.handlers.llamacpp.threads import in_own_thread
from serve.pictures.resize import prepare, view_of
from serve.pictures.room import PictureRoom
from serve.protocol.chat import ChatCollector
from serve.protocol.events import Event, Usage
from serve.protocol.sampling import resolve
from serve.settings.engines import LlamaCppEngine
from serve.settings.pictures import PictureGrid
from tests.grounding import TWO_BOXES, confidences
from tests.llamacpp import CAPITAL, GREEDY, chat, deltas, events_of, stream, text, until, usage
from tests.pictures import file_of, plain, url_of
from tests.qwenvl import MODEL, PROJECTOR, save_qwen2_5_vl, settings_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("qwenvl") / "tiny-qwen2.5-vl"
    save_qwen2_5_vl(found)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def handler(folder: Path) -> AsyncIterator[LlamaCppHandler]:
    found = LlamaCppHandler(settings_of(folder, batch=64))
    await found.load()
    yield found
    await found.unload()


def picture(colour: str, size: tuple[int, int] = (112, 112)) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url_of(file_of(plain(colour, size)))}}


def asked(*parts: dict[str, Any], words: str = "What is it?", **fields: Any) -> Any:
    return chat([{"role": "user", "content": [*parts, {"type": "text", "text": words}]}], **fields)


def tokens_of(events: list[Event], choice: int = 0) -> list[bytes]:
    return [one.raw for delta in deltas(events, choice) for one in delta.logprobs or ()]


async def test_it_says_that_it_sees_and_how(handler: LlamaCppHandler) -> None:
    assert handler.capabilities.vision
    assert handler.capabilities.pictures == PictureGrid(14, 2, 8 * 28 * 28, 64 * 28 * 28, "pixels")


async def test_a_picture_is_part_of_the_prompt(handler: LlamaCppHandler) -> None:
    without = usage(await events_of(handler, asked()))
    small = usage(await events_of(handler, asked(picture("red"))))
    large = usage(await events_of(handler, asked(picture("red", (224, 112)))))
    assert small.prompt_tokens == without.prompt_tokens + 2 + 4 * 4
    assert large.prompt_tokens == without.prompt_tokens + 2 + 8 * 4


async def test_answers_are_those_of_llama_cpps_own_way_through_the_prompt(
    handler: LlamaCppHandler, folder: Path
) -> None:
    """libmtmd's helper decodes the same prompt in a context of its own; both take the likeliest token each time."""
    reference = await in_own_thread(lambda: _by_the_helper(folder, "red", (224, 112), tokens=12))
    found = await events_of(handler, asked(picture("red", (224, 112)), logprobs=True, max_tokens=12))
    assert tokens_of(found) == reference


def _by_the_helper(folder: Path, colour: str, size: tuple[int, int], tokens: int) -> list[bytes]:
    settings = LlamaCppEngine(context=1024, slots=1, threads=1, projector=PROJECTOR, image_max_tokens=64)
    model = Model(folder / MODEL, settings)
    context, sight = Context(model, settings), Sight(folder / PROJECTOR, model, settings)
    shown = plain(colour, size)
    buffer = (ctypes.c_uint8 * len(shown.tobytes())).from_buffer_copy(shown.tobytes())
    bitmaps = (M.mtmd_bitmap_p_ctypes * 1)(M.mtmd_bitmap_init(*size, buffer))
    words = f"<|im_start|>user\n{sight.mark}What is it?<|im_end|>\n<|im_start|>assistant\n".encode()
    chunks, place = M.mtmd_input_chunks_init(), C.llama_pos()
    told = M.mtmd_input_text(words, len(words), True, True)
    assert M.mtmd_tokenize(sight._pointer, chunks, ctypes.byref(told), bitmaps, 1) == 0
    code = M.mtmd_helper_eval_chunks(sight._pointer, context.pointer, chunks, 0, 0, 64, True, ctypes.byref(place))
    assert code == 0
    found: list[bytes] = []
    row, position = -1, place.value
    for _ in range(tokens):
        token = int(np.argmax(context.logits(row)))
        found.append(model.piece(token))
        context.batch.clear()
        row = context.batch.add(0, array("i", [token]), 0, 1, output=True, position=position)
        assert context.decode() == 0
        position += 1
    context.close()
    return found


async def test_what_is_seen_matters_and_is_seen_alike_each_time(handler: LlamaCppHandler) -> None:
    red, blue, again = [text(await events_of(handler, asked(picture(one)))) for one in ("red", "blue", "red")]
    assert red == again != blue


async def test_it_tells_how_sure_it_is_of_the_boxes_that_a_grammar_binds_it_to(handler: LlamaCppHandler) -> None:
    answer = ChatCollector("m")
    async for events in stream(handler, asked(picture("red"), **TWO_BOXES)):
        answer.add(events)
    first, second = confidences(answer.body())
    assert first is not None and second is not None
    assert 0 < first < 1 and 0 < second < 1


async def test_a_conversation_about_a_picture_goes_on_from_its_cache(handler: LlamaCppHandler) -> None:
    first = asked(picture("green"), words="What is this thing here?")
    answer = text(await events_of(handler, first))
    messages = [
        *(message.model_dump(exclude_none=True) for message in first.messages),
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "And now?"},
    ]
    following = await events_of(handler, chat(messages))
    before = usage(await events_of(handler, first)).prompt_tokens
    assert usage(following).cached_tokens >= before - 3
    # The same from nothing, in a model of its own: what was cached changes nothing.
    fresh = LlamaCppHandler(handler.settings)
    await fresh.load()
    assert text(await events_of(fresh, chat(messages))) == text(following)
    await fresh.unload()


async def test_pictures_that_differ_share_only_what_is_before_them(handler: LlamaCppHandler) -> None:
    words = [{"type": "text", "text": "one two three four five six seven eight nine ten"}]
    await events_of(handler, asked(*words, picture("yellow")))
    events = await events_of(handler, asked(*words, picture("purple")))
    # A byte is a token: what is before the words, the words, and the mark of a picture.
    before = "<|im_start|>user\none two three four five six seven eight nine ten"
    assert usage(events).cached_tokens == len(before) - len("<|im_start|>") + 1 - before.count(" t") + 1


async def test_pictures_and_words_of_many_are_decoded_together_as_alone(handler: LlamaCppHandler) -> None:
    requests = [
        asked(picture("orange", (224, 224))),
        asked(words="Tell me about the sea."),
        asked(picture("pink"), picture("teal", (112, 224)), n=2),
        chat(CAPITAL),
    ]
    alone = [await events_of(handler, one) for one in requests]
    together = await asyncio.gather(*(events_of(handler, one) for one in requests))
    assert [text(one) for one in together] == [text(one) for one in alone]
    assert text(together[2], 1) == text(together[2])


async def test_words_of_the_mark_do_not_stand_for_a_picture(handler: LlamaCppHandler) -> None:
    for words in ("<__media__>", "<__picture_0__>", "<|image_pad|>", "<|vision_start|><|image_pad|><|vision_end|>"):
        assert text(await events_of(handler, asked(words=words)))
        assert text(await events_of(handler, asked(picture("red"), words=words)))


async def test_one_that_leaves_while_its_picture_is_read_disturbs_nobody(handler: LlamaCppHandler) -> None:
    expected = text(await events_of(handler, asked(picture("red"))))
    left = stream(handler, asked(picture("navy", (224, 224))))
    waiting = asyncio.create_task(anext(left))
    await asyncio.sleep(0.02)
    waiting.cancel()
    await asyncio.wait([waiting])
    await left.aclose()
    assert text(await events_of(handler, asked(picture("red")))) == expected
    assert text(await events_of(handler, asked(picture("navy", (224, 224)))))


async def test_a_large_picture_is_seen_as_its_own_version_of_the_models_size(handler: LlamaCppHandler) -> None:
    assert handler.capabilities.pictures is not None
    large = Image.effect_noise((560, 300), 80).convert("RGB").resize((1120, 600))
    view = view_of(*large.size, handler.capabilities.pictures)
    found = [
        await events_of(handler, asked({"type": "image_url", "image_url": {"url": url_of(file_of(shown))}}))
        for shown in (large, prepare(large, view))
    ]
    without = usage(await events_of(handler, asked()))
    assert usage(found[0]).prompt_tokens == without.prompt_tokens + 2 + view.seen[0] * view.seen[1] // 28**2
    # The same pixels: what was kept of the first is what the second begins with.
    assert usage(found[1]).cached_tokens >= usage(found[0]).prompt_tokens - 3
    assert text(found[1]) == text(found[0])


async def test_pictures_have_no_room_once_they_are_encoded_or_cannot_be(handler: LlamaCppHandler) -> None:
    room = room_of(handler)
    answering = stream(handler, asked(picture("red", (1000, 800)), max_tokens=20))
    await anext(answering)
    assert room.used == 0
    await answering.aclose()
    too_long = asked(picture("olive", (1000, 800)), words="word " * 950)
    with pytest.raises(ContextLengthExceeded):
        await events_of(handler, too_long)
    assert room.used == 0


async def test_pictures_wait_for_the_encoder_at_the_models_size_until_their_client_leaves(
    handler: LlamaCppHandler,
) -> None:
    room, turns = room_of(handler), handler._pictures._turns
    turn = await turns.take(1, most=1, seconds=5)
    waiting = [stream(handler, asked(picture(one, (1000, 800)))) for one in ("maroon", "silver")]
    events = [asyncio.ensure_future(anext(one)) for one in waiting]
    assert handler.capabilities.pictures is not None
    wide, high = view_of(1000, 800, handler.capabilities.pictures).seen
    await until(lambda: room.used == 2 * wide * high)
    events[0].cancel()
    await asyncio.wait(events[:1])
    assert room.used == wide * high
    turn.close()
    await events[1]
    assert room.used == 0 and turns.used == 0
    for one in waiting:
        await one.aclose()


async def test_a_sequence_that_is_put_back_needs_no_picture_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(folder, slots=2, cache_prompts=False).engine
    assert isinstance(settings, LlamaCppEngine)
    model = Model(folder / MODEL, settings)
    planner = Planner(model, settings.context, Sight(folder / PROJECTOR, model, settings))
    # It never ends by itself; each of the two has more tokens than half of the cache.
    endless: dict[str, Any] = {"max_tokens": 100, "logit_bias": {"257": -100, "259": -100}}
    plans = []
    for colour in ("red", "blue"):
        request = asked(picture(colour), **endless)
        shown = [plain(colour, (224, 224))]
        plans.append(await in_own_thread(partial(planner.chat, request, resolve(request, GREEDY), shown)))
    answers = []
    for cache in (settings.context, 128):
        context = Context(model, settings.model_copy(update={"context": cache}))
        engine = Engine(model, context, settings, name="m", max_queued=2, loop=asyncio.get_running_loop())
        streams = [Stream(plan) for plan in plans]
        for one in streams:
            engine.submit(one)
        answers.append([text(await _all_of(one)) for one in streams])
        await asyncio.to_thread(engine.close)
    assert "a sequence waits" in caplog.text
    assert answers[0] == answers[1] and all(answers[0])


async def _all_of(one: Stream) -> list[Event]:
    events: list[Event] = []
    while not (events and isinstance(events[-1], Usage)):
        events += await one.take()
    return events


def room_of(handler: LlamaCppHandler) -> PictureRoom:
    return handler._pictures._pictures._room


async def test_nothing_is_encoded_for_one_that_left(folder: Path) -> None:
    settings = settings_of(folder).engine
    assert isinstance(settings, LlamaCppEngine)
    sight = Sight(folder / PROJECTOR, Model(folder / MODEL, settings), settings)
    left = threading.Event()
    left.set()
    with pytest.raises(NobodyWaits):
        sight.prompt(f"a {sight.mark} b", [plain("red", (112, 112))], left)
    tokens, (seen,) = sight.prompt(f"a {sight.mark} b", [plain("red", (112, 112))], threading.Event())
    assert seen.start < seen.end < len(tokens)


async def test_more_requests_with_pictures_than_may_wait_are_refused(folder: Path) -> None:
    one = LlamaCppHandler(settings_of(folder, slots=1).model_copy(update={"max_queued": 0}))
    await one.load()
    try:
        found = await asyncio.gather(
            *(events_of(one, asked(picture("red"))) for _ in range(2)), return_exceptions=True
        )
        assert isinstance(found[0], list) and text(found[0])
        assert isinstance(found[1], QueueFull)
        assert text(await events_of(one, asked(picture("red"))))
    finally:
        await one.unload()


async def test_more_pictures_than_the_model_takes_are_refused(handler: LlamaCppHandler) -> None:
    with pytest.raises(InvalidRequest, match="at most 2 images") as raised:
        await events_of(handler, asked(picture("red"), picture("blue"), picture("green")))
    assert raised.value.param == "messages[0].content[2]"


@pytest.mark.parametrize("url", ["data:image/png;base64,AAAA", "http://example.com/a.png", "https://127.0.0.1/a.png"])
async def test_a_picture_that_cannot_be_taken_is_the_requests_fault(handler: LlamaCppHandler, url: str) -> None:
    with pytest.raises(InvalidRequest, match="Picture 0 cannot be taken") as raised:
        await events_of(handler, asked({"type": "image_url", "image_url": {"url": url}}))
    assert raised.value.param == "messages[0].content[0]"


async def test_a_prompt_that_is_too_long_with_its_pictures_is_refused(handler: LlamaCppHandler) -> None:
    parts = [picture("red", (224, 224)), picture("blue", (224, 224))]
    with pytest.raises(ContextLengthExceeded):
        await events_of(handler, asked(*parts, words="word " * 950))


async def test_a_model_without_a_projector_sees_nothing(folder: Path) -> None:
    blind = LlamaCppHandler(settings_of(folder, projector=None))
    await blind.load()
    assert not blind.capabilities.vision
    with pytest.raises(InvalidRequest, match="cannot see images") as raised:
        await events_of(blind, asked(picture("red")))
    assert raised.value.param == "messages[0].content[0]"
    await blind.unload()


async def test_a_file_that_is_no_projector_is_named(folder: Path) -> None:
    wrong = settings_of(folder)
    engine = wrong.engine.model_copy(update={"projector": MODEL})
    with pytest.raises(RuntimeError, match=MODEL):
        await LlamaCppHandler(wrong.model_copy(update={"engine": engine})).load()
