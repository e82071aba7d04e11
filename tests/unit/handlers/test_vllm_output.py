"""From vLLM's outputs to events, on outputs made by hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from serve.errors import InternalError
from serve.handlers.vllm.output import Choice, events
from serve.protocol.events import Delta, ToolCallDelta, Usage


def output(text: str = "", tokens: Sequence[int] = (1,), end: str | None = None, **fields: Any) -> SimpleNamespace:
    return SimpleNamespace(index=0, text=text, token_ids=tokens, finish_reason=end, logprobs=None, **fields)


def call(index: int, name: str | None = None, arguments: str | None = None) -> SimpleNamespace:
    function = SimpleNamespace(name=name, arguments=arguments)
    return SimpleNamespace(index=index, id="c" if name else None, function=function)


def message(content: str | None = None, reasoning: str | None = None, *calls: Any) -> SimpleNamespace:
    return SimpleNamespace(content=content, reasoning=reasoning, tool_calls=list(calls))


def parsing(*found: Any) -> Any:
    """A parser that finds these, one after the other."""
    rest = iter(found)
    return lambda text, tokens, prompt, finished: next(rest)


def test_text_is_text_where_nothing_parses() -> None:
    assert Choice(2).feed(output("Hi"), None) == Delta(index=2, text="Hi")


def test_tokens_that_are_no_whole_character_yet_say_nothing() -> None:
    choice = Choice(0)
    assert choice.feed(output(""), None) is None
    assert choice.tokens == 1


def test_the_end_is_said_even_with_no_text() -> None:
    choice = Choice(0)
    assert choice.feed(output("", end="length"), None) == Delta(finish_reason="length")
    assert choice.finished


def test_reasoning_and_answer_stay_apart() -> None:
    choice = Choice(0, parsing(message(None, "hm"), None, message("yes")))
    found = [choice.feed(output("x"), None) for _ in range(3)]
    assert found == [Delta(reasoning="hm"), None, Delta(text="yes")]


def test_calls_make_the_reason_of_the_end() -> None:
    choice = Choice(0, parsing(message(None, None, call(0, "paint")), message(None, None, call(0, None, "{}")), None))
    assert choice.feed(output(), None) == Delta(tool_calls=(ToolCallDelta(0, "c", "paint"),))
    assert choice.feed(output(), None) == Delta(tool_calls=(ToolCallDelta(0, arguments="{}"),))
    assert choice.feed(output(end="stop"), None) == Delta(finish_reason="tool_calls")


def test_a_call_that_ran_into_the_limit_was_cut() -> None:
    choice = Choice(0, parsing(message(None, None, call(0, "paint"))))
    found = choice.feed(output(end="length"), None)
    assert found is not None and found.finish_reason == "length"


def test_of_many_calls_one_is_left_when_one_is_wanted() -> None:
    choice = Choice(0, parsing(message(None, None, call(0, "a"), call(1, "b"))), one_call=True)
    found = choice.feed(output(), None)
    assert found is not None and [one.name for one in found.tool_calls] == ["a"]


def test_log_probabilities_are_by_rank_and_the_sampled_token_is_apart() -> None:
    likely = {
        7: SimpleNamespace(logprob=-3.0, rank=9, decoded_token="c"),
        5: SimpleNamespace(logprob=-0.5, rank=1, decoded_token="a"),
        6: SimpleNamespace(logprob=float("-inf"), rank=2, decoded_token="é"),
    }
    made = output("c", [7])
    made.logprobs = [likely]
    found = Choice(0, top=2).feed(made, None)
    assert found is not None and found.logprobs is not None
    [one] = found.logprobs
    assert (one.token, one.logprob, one.raw) == ("c", -3.0, b"c")
    assert [(top.token, top.logprob, top.raw) for top in one.top] == [
        ("a", -0.5, b"a"),
        ("é", -9999.0, "é".encode()),
    ]


@pytest.mark.parametrize("reason", ["error", "abort", "unheard-of"])
def test_an_end_that_is_no_answer_is_an_error(reason: str) -> None:
    with pytest.raises(InternalError, match=reason):
        Choice(0).feed(output(end=reason), None)


async def results(*made: SimpleNamespace) -> AsyncGenerator[SimpleNamespace, None]:
    for number, one in enumerate(made):
        last = number == len(made) - 1
        yield SimpleNamespace(outputs=[one], finished=last, prompt_token_ids=[1, 2, 3], num_cached_tokens=2)


async def test_the_last_event_is_the_usage() -> None:
    found = [list(ready) async for ready in events(results(output("a"), output("b", [4, 5], "stop")), [Choice(0)])]
    assert found == [[Delta(text="a")], [Delta(text="b", finish_reason="stop"), Usage(3, 3, 2)]]


async def test_closing_the_events_closes_the_generation() -> None:
    closed = False

    async def endless() -> AsyncGenerator[SimpleNamespace, None]:
        nonlocal closed
        try:
            while True:
                yield SimpleNamespace(
                    outputs=[output("a")], finished=False, prompt_token_ids=[1], num_cached_tokens=0
                )
        finally:
            closed = True

    stream = events(endless(), [Choice(0)])
    await anext(stream)
    await stream.aclose()
    assert closed
