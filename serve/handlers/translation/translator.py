"""One piece of text to its translation: asked for, checked, asked for again, and put together where a model
loses what it must keep."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from serve.errors import UpstreamFailed
from serve.handlers.translation import prompts
from serve.handlers.translation.checks import Fault, faults, terms_in
from serve.handlers.translation.inline import Syntax
from serve.handlers.translation.languages import Language
from serve.handlers.translation.masks import Masked, masked
from serve.handlers.translation.memory import Memory
from serve.handlers.translation.prompts import Task
from serve.protocol.events import Usage
from serve.protocol.translation import Pair
from serve.settings.translation import Family, TranslationUserConfig
from serve.tasks.client import GroupClient

#: What models put around a translation although they are asked not to.
_PREAMBLE = re.compile(
    r"\A(?:(?:sure|certainly|of course)[^\n]{0,80}\n+|(?:here is|here's)[^\n]{0,80}:\s*"
    r"|(?:the )?translation(?: in \w+)?:\s*)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\s*\Z", re.DOTALL)
#: What begins a text between two marks and belongs to what was before it.
_LEADING = re.compile(r"\A[\s,;:.!?)\]}，。；：！？、–—-]+")
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
_QUOTES = {'"': '"', "“": "”", "«": "»", "「": "」", "„": "“", "'": "'"}


NO_TOKENS = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for every piece of one request.

    Attributes:
        model: who translates: an id, ``id:adapter`` or ``auto``.
    """

    target: Language
    model: str
    family: Family
    terms: Sequence[Pair]
    memory: Memory
    domains: str | None
    behaviour: TranslationUserConfig


@dataclass(frozen=True, slots=True)
class Done:
    """A piece that was translated.

    Attributes:
        text: written as the source's syntax has it; everything that is kept is in it.
        faults: what could not be mended.
        pieced: whether it was put together from parts, because the model lost what was to be kept.
        model: who answered; none where nobody was asked.
    """

    text: str
    faults: tuple[Fault, ...] = ()
    usage: Usage = NO_TOKENS
    pieced: bool = False
    model: str | None = None


@dataclass(slots=True)
class _Try:
    """An answer and what is wrong with it."""

    answer: str
    faults: list[Fault]
    usage: Usage
    model: str | None

    @property
    def lost(self) -> bool:
        """Whether something that is kept was lost, doubled or invented."""
        return any(fault.type == "placeholder" for fault in self.faults)

    @property
    def weight(self) -> int:
        """How bad it is."""
        return sum(_GRAVITY[fault.type] for fault in self.faults)


_GRAVITY = {"placeholder": 100, "untranslated": 50, "length": 20, "term": 5, "number": 3}


class Translator:
    """Translates pieces with a model of the group."""

    def __init__(self, group: GroupClient, plan: Plan) -> None:
        self._group = group
        self._plan = plan

    async def piece(self, text: str, syntax: Syntax, source: Language, context: str) -> Done:
        """The translation of ``text``, which is short enough to be asked for at once.

        Raises:
            GroupQwenError: the model cannot be asked.
        """
        known = self._plan.memory.exact(text)
        if known is not None:
            return Done(known.target)
        whole = masked(text, syntax)
        if not whole.text:
            return Done(text)
        best, usage = await self._best(whole, source, context)
        if not best.lost:
            # An empty answer is no reason to lose the text.
            answer = best.answer or whole.text
            return Done(whole.restored(answer), tuple(best.faults), usage, model=best.model)
        return await self._pieced(whole, source, usage, best.model)

    async def _best(self, whole: Masked, source: Language, context: str) -> tuple[_Try, Usage]:
        """The best of as many answers as are asked for, and what all of them took."""
        terms = terms_in(whole.text, self._plan.terms)
        best: _Try | None = None
        usage, wrong = NO_TOKENS, tuple[str, ...]()
        for _ in range(1 + self._plan.behaviour.retries):
            one = await self._ask(whole, source, context, terms, wrong)
            usage = _sum(usage, one.usage)
            if best is None or one.weight < best.weight:
                best = one
            if not best.faults:
                break
            wrong = tuple(dict.fromkeys(_in_words(fault, whole) for fault in best.faults))
        assert best is not None, "it is asked for at least once"
        return best, usage

    async def _ask(
        self, whole: Masked, source: Language, context: str, terms: list[Pair], wrong: tuple[str, ...]
    ) -> _Try:
        plan = self._plan
        task = Task(
            text=whole.text,
            source=source,
            target=plan.target,
            marks=tuple(whole.marks),
            context=context,
            terms=tuple(terms),
            examples=tuple(await asyncio.to_thread(plan.memory.nearest, whole.text, plan.behaviour.memory_examples)),
            domains=plan.domains,
            wrong=wrong,
        )
        body = prompts.request(plan.family, plan.model, task)
        answer = await self._group.chat(body, seconds=plan.behaviour.timeout)
        try:
            said = answer["choices"][0]["message"]["content"] or ""
            counts = answer.get("usage") or {}
        except (KeyError, IndexError, TypeError) as error:
            raise UpstreamFailed("The model's answer is no chat completion.") from error
        said = _cleaned(said, whole.text)
        usage = Usage(counts.get("prompt_tokens", 0), counts.get("completion_tokens", 0))
        return _Try(said, faults(whole, said, terms, source, plan.target), usage, answer.get("model"))

    async def _pieced(self, whole: Masked, source: Language, usage: Usage, model: str | None) -> Done:
        """The texts between what is kept, translated one by one, with what is kept where it stood."""
        texts, found = [], []
        for between in whole.between():
            bare = _LEADING.sub("", between).rstrip()
            part = Masked("", bare, "", (), whole.syntax)
            best, took = await self._best(part, source, "")
            usage = _sum(usage, took)
            before, _, after = between.partition(bare)
            if best.lost or not best.answer:
                best = _Try(bare, [Fault("untranslated", bare[:120])], usage, best.model)
            texts.append(before + best.answer + after)
            found += best.faults
        return Done(whole.around(texts), tuple(found), usage, pieced=True, model=model)


def _cleaned(said: str, source: str) -> str:
    """An answer without what models put around it, on one line as its source is."""
    said = _THOUGHT.sub("", said).strip()
    if (fenced := _FENCE.match(said)) and "```" not in source:
        said = fenced[1].strip()
    said = _PREAMBLE.sub("", said)
    close = _QUOTES.get(said[:1])
    if close and len(said) > 2 and said.endswith(close) and source[:1] not in _QUOTES:
        said = said[1:-1]
    # A source is one line; what comes after an empty one is a remark.
    said = said.strip().split("\n\n")[0]
    return " ".join(said.split())


def _in_words(fault: Fault, whole: Masked) -> str:
    """A fault as the model is told it."""
    if fault.type == "placeholder":
        kept = [mark for mark, held in zip(whole.marks, whole.held, strict=True) if held == fault.source]
        return f"{kept[0]} must be in it exactly once." if kept else f"{fault.source} does not belong in it."
    if fault.type == "term":
        return f'"{fault.source}" must be translated as "{fault.target}".'
    if fault.type == "number":
        return f"The number {fault.source} is missing."
    return "It was not a translation of the text." if fault.type == "untranslated" else "Its length was wrong."


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(one.prompt_tokens + other.prompt_tokens, one.completion_tokens + other.completion_tokens)
