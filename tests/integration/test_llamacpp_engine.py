"""The llama.cpp engine when the cache is full and when llama.cpp fails, with a real model."""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serve.errors import GroupQwenError, InternalError, Unavailable
from serve.handlers.llamacpp.context import NO_ROOM, Context
from serve.handlers.llamacpp.engine import MAX_FAILURES, Engine
from serve.handlers.llamacpp.grammar import GrammarText
from serve.handlers.llamacpp.model import Model
from serve.handlers.llamacpp.output import OutputForm
from serve.handlers.llamacpp.plan import Plan
from serve.handlers.llamacpp.reasoning import State
from serve.handlers.llamacpp.sampler import Grammar, GrammarError
from serve.handlers.llamacpp.sequence import Stream
from serve.models import local_path
from serve.protocol.events import Delta, Event, Usage
from serve.protocol.requests import CompletionRequest, FunctionDefinition
from serve.protocol.sampling import SamplingDefaults, resolve
from serve.settings.engines import LlamaCppEngine
from serve.settings.model import ModelSettings

FAILED = -3
STORY = "Once upon a time there was a small dragon"
COUNT = "one two three four five six seven eight nine ten one two three four"


class ScriptedContext(Context):
    """A real context whose decodes fail as told: each code of ``script`` stands for one call, 0 for a real one."""

    script: deque[int] = deque()

    def decode(self) -> int:
        """The next code of the script, or what llama.cpp says."""
        if self.script and (code := self.script.popleft()):
            return code
        return super().decode()


@pytest.fixture(scope="module")
def model(smollm2_settings: ModelSettings) -> Iterator[Model]:
    assert smollm2_settings.weights is not None
    yield Model(local_path(smollm2_settings.id, smollm2_settings.weights), LlamaCppEngine())


@asynccontextmanager
async def running(model: Model, *, cache: int | None = None, **settings: Any) -> AsyncIterator[Engine]:
    """An engine; ``cache`` gives it fewer tokens for each slot than its settings promise."""
    wanted = LlamaCppEngine(**settings)
    context = ScriptedContext(model, wanted.model_copy(update={"context": cache or wanted.context}))
    context.script = deque()
    engine = Engine(model, context, wanted, name="m", max_queued=8, loop=asyncio.get_running_loop())
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


def fail_next(engine: Engine, *codes: int) -> None:
    context = engine._context
    assert isinstance(context, ScriptedContext)
    context.script.extend(codes)


def request(model: Model, prompt: str, *, grammar: str | None = None, **fields: Any) -> Plan:
    body = CompletionRequest.model_validate({"model": "m", "prompt": prompt, "temperature": 0, **fields})
    compiled = Grammar(model, grammar) if grammar else None
    return Plan(model.tokenize(prompt), resolve(body, SamplingDefaults()), OutputForm(), compiled)


async def events_of(engine: Engine, plan: Plan) -> list[Event]:
    stream = Stream(plan)
    engine.submit(stream)
    events: list[Event] = []
    while not (events and isinstance(events[-1], Usage)):
        events += await stream.take()
    return events


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def test_sequences_that_outgrow_the_cache_wait_and_lose_nothing(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    plans = [request(model, prompt, max_tokens=150) for prompt in (STORY, COUNT)]
    async with running(model, context=256, slots=1, cache_prompts=False) as engine:
        alone = [await events_of(engine, plan) for plan in plans]
    # 256 tokens of cache in all, and each of the two needs more than 150.
    async with running(model, context=256, slots=2, cache=128, cache_prompts=False) as engine:
        together = await asyncio.gather(*(events_of(engine, plan) for plan in plans))
    assert "a sequence waits" in caplog.text
    for before, after in zip(alone, together, strict=True):
        assert after[-1] == before[-1]
        assert after[-2].finish_reason == "length"  # type: ignore[union-attr]
        assert text(after)[:40] == text(before)[:40]


async def test_what_idle_slots_hold_makes_room_first(model: Model) -> None:
    async with running(model, context=256, slots=2, cache=128) as engine:
        await events_of(engine, request(model, COUNT, max_tokens=150))
        events = await events_of(engine, request(model, STORY, max_tokens=150))
    assert isinstance(events[-1], Usage)
    assert events[-1].completion_tokens == 150


async def test_a_request_that_alone_has_no_room_ends_with_an_error(model: Model) -> None:
    async with running(model, context=512, slots=1) as engine:
        fail_next(engine, NO_ROOM)
        with pytest.raises(InternalError):
            await events_of(engine, request(model, COUNT))
        assert text(await events_of(engine, request(model, COUNT, max_tokens=4))) == " five six seven eight"


async def test_a_failed_decode_ends_what_ran_and_nothing_else(model: Model) -> None:
    async with running(model, context=512, slots=2) as engine:
        fail_next(engine, 0, 0, 0, FAILED)
        ran = [events_of(engine, request(model, prompt, max_tokens=200)) for prompt in (COUNT, STORY)]
        waited = events_of(engine, request(model, COUNT, max_tokens=4))
        found = await asyncio.gather(*ran, waited, return_exceptions=True)
        assert [type(result) for result in found] == [InternalError, InternalError, list]
        assert text(found[2]) == " five six seven eight"  # type: ignore[arg-type]
        assert engine.broken is None


async def test_an_engine_that_keeps_failing_gives_itself_up(model: Model) -> None:
    async with running(model, context=512, slots=1) as engine:
        fail_next(engine, *[FAILED] * MAX_FAILURES)
        plans = [request(model, COUNT) for _ in range(MAX_FAILURES + 1)]
        found = await asyncio.gather(*(events_of(engine, plan) for plan in plans), return_exceptions=True)
        assert [type(error) for error in found] == [InternalError] * MAX_FAILURES + [Unavailable]
        assert engine.broken is not None
        with pytest.raises(Unavailable):
            engine.submit(Stream(plans[0]))


async def test_a_form_that_no_token_fits_ends_only_its_request(model: Model) -> None:
    async with running(model, context=512, slots=2) as engine:
        # llama.cpp never offers the character NUL to a grammar.
        impossible = events_of(engine, request(model, COUNT, grammar='root ::= "a" "\\x00"'))
        possible = events_of(engine, request(model, COUNT, max_tokens=4))
        found = await asyncio.gather(impossible, possible, return_exceptions=True)
    assert isinstance(found[0], GroupQwenError)
    assert text(found[1]) == " five six seven eight"  # type: ignore[arg-type]


async def test_a_grammar_binds_every_token(model: Model) -> None:
    async with running(model, context=512, slots=1) as engine:
        events = await events_of(engine, request(model, COUNT, grammar='root ::= ("yes" | "no") "!"', max_tokens=20))
    assert text(events) in ("yes!", "no!")
    assert events[-2].finish_reason == "stop"  # type: ignore[union-attr]


@pytest.mark.parametrize("thinking", ["before", "inside", "after"])
def test_a_form_with_thinking_before_it_compiles(model: Model, thinking: State) -> None:
    form = GrammarText(thinking)
    form.allow_json({"type": "object", "properties": {"a": {"type": "string"}}})
    form.allow_calls([FunctionDefinition(name="f")], many=True)
    Grammar(model, form.text())


@pytest.mark.parametrize("grammar", ["root ::= missing", "root ::= root", 'other ::= "a"'])
def test_a_grammar_that_does_not_compile_is_refused(model: Model, grammar: str) -> None:
    with pytest.raises(GrammarError):
        Grammar(model, grammar)


def test_a_text_is_tokenized_whole(model: Model) -> None:
    for sample in ("", "plain words", "日本語 🙂 \x00 é", "<|im_start|>user", " " * 1000):
        tokens = model.tokenize(sample, add_special=False)
        assert b"".join(model.label(token) for token in tokens).decode() == sample


def test_half_a_surrogate_pair_is_tokenized_as_a_question_mark(model: Model) -> None:
    assert model.tokenize("a\ud83d") == model.tokenize("a?")


def test_control_tokens_add_nothing_to_a_text(model: Model) -> None:
    [token] = model.tokenize("<|im_end|>")
    assert model.ends(token)
    assert model.piece(token) == b""
    assert model.label(token) == b"<|im_end|>"
    assert model.tokenize("ab", add_special=False) == array("i", model.tokenize("ab"))
