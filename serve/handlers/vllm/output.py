"""From vLLM's outputs to deltas: text, reasoning, tool calls, log probabilities, the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from serve.errors import InternalError
from serve.protocol.events import Delta, Event, FinishReason, TokenLogprob, ToolCallDelta, TopLogprob, Usage

#: vLLM's reasons that a sequence ended -> OpenAI's.
_FINISHED: dict[str, FinishReason] = {"stop": "stop", "length": "length", "repetition": "stop"}

#: Reads one piece of an output (text, token ids, prompt token ids, whether it is the last) and tells what it is: an
#: object with ``content``, ``reasoning`` and ``tool_calls``, or nothing yet.
Parse = Callable[[str, Sequence[int], Sequence[int] | None, bool], Any]


class Choice:
    """One choice of an answer.

    Attributes:
        tokens: generated so far.
        finished: whether its last delta was given out.
    """

    def __init__(
        self, index: int, parse: Parse | None = None, *, top: int | None = None, one_call: bool = False
    ) -> None:
        self._index = index
        self._parse = parse
        self._top = top
        self._one_call = one_call
        self._called = False
        self.tokens = 0
        self.finished = False

    def feed(self, output: Any, prompt: Sequence[int] | None) -> Delta | None:
        """Take a ``CompletionOutput``; give what can be shown of it, if anything.

        Raises:
            InternalError: the engine failed on the sequence.
        """
        end = None if output.finish_reason is None else _reason(output.finish_reason)
        self.tokens += len(output.token_ids)
        text, reasoning, calls = self._parts(output, prompt, finished=end is not None)
        logprobs = None if self._top is None else _logprobs(output, self._top)
        if end is None and not (text or reasoning or calls or logprobs):
            return None
        self._called = self._called or bool(calls)
        self.finished = end is not None
        return Delta(
            index=self._index,
            text=text,
            reasoning=reasoning,
            tool_calls=calls,
            logprobs=logprobs,
            finish_reason="tool_calls" if end == "stop" and self._called else end,
        )

    def _parts(
        self, output: Any, prompt: Sequence[int] | None, *, finished: bool
    ) -> tuple[str, str, tuple[ToolCallDelta, ...]]:
        if self._parse is None:
            return output.text, "", ()
        found = self._parse(output.text, output.token_ids, prompt, finished)
        if found is None:
            return "", "", ()
        calls = tuple(
            ToolCallDelta(
                index=call.index,
                id=call.id,
                name=call.function.name if call.function else None,
                arguments=(call.function.arguments if call.function else None) or "",
            )
            for call in found.tool_calls
            if not (self._one_call and call.index)
        )
        return found.content or "", found.reasoning or "", calls


async def events(results: AsyncGenerator[Any, None], choices: list[Choice]) -> AsyncGenerator[Sequence[Event], None]:
    """The events of a generation; ``results`` are vLLM's ``RequestOutput``s. Closing this aborts the request."""
    async with aclosing(results):
        async for result in results:
            ready: list[Event] = []
            for output in result.outputs:
                choice = choices[output.index]
                if not choice.finished and (delta := choice.feed(output, result.prompt_token_ids)) is not None:
                    ready.append(delta)
            if result.finished:
                generated = sum(choice.tokens for choice in choices)
                ready.append(Usage(len(result.prompt_token_ids), generated, result.num_cached_tokens or 0))
            if ready:
                yield ready


def _reason(name: str) -> FinishReason:
    if name not in _FINISHED:
        raise InternalError(f"The engine ended the request with {name!r}.")
    return _FINISHED[name]


def _logprobs(output: Any, top: int) -> tuple[TokenLogprob, ...]:
    """The log probabilities of an output's tokens; vLLM gives each token's own and the likeliest, with ranks."""
    found = []
    for token, likely in zip(output.token_ids, output.logprobs or (), strict=True):
        best = sorted((one for one in likely.values() if one.rank <= top), key=lambda one: one.rank)
        own = _alternative(likely[token])
        found.append(TokenLogprob(own.token, own.logprob, own.raw, tuple(map(_alternative, best))))
    return tuple(found)


def _alternative(one: Any) -> TopLogprob:
    text = one.decoded_token or ""
    # JSON knows no infinity; vLLM's own server writes this number too.
    return TopLogprob(text, max(one.logprob, -9999.0), text.encode(errors="replace"))
