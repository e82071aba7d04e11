"""One piece of text to its translation: asked for, checked, asked for again, and put together where a model
loses what it must keep."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace

from serve.errors import GroupQwenError, UpstreamFailed
from serve.handlers.translation import prompts
from serve.handlers.translation.checks import Fault, faults
from serve.handlers.translation.inline import Syntax, kept, pieces, written
from serve.handlers.translation.languages import Language
from serve.handlers.translation.masks import Masked, masked
from serve.handlers.translation.plan import Plan
from serve.handlers.translation.prompts import Task
from serve.protocol.events import Usage
from serve.tasks.client import GroupClient

#: What models put around a translation although they are asked not to.
_PREAMBLE = re.compile(
    r"\A(?:(?:sure|certainly|of course)[^\n]{0,80}\n+|here(?: is|'s)[^\n:]{0,80}:[^\S\n]*\n\s*"
    r"|here(?: is|'s)[^\n:]{0,60}\btranslat\w+[^\n:]{0,40}:\s*|(?:the )?translation(?: in \w+)?:\s*)",
    re.IGNORECASE,
)
#: A source that has one of these may have to be translated to what looks like a preamble.
_COLONS = re.compile("[:\uff1a\ufe55\u0589\u055d]")
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\s*\Z", re.DOTALL)
#: What begins a text between two marks and belongs to what was before it.
_LEADING = re.compile(r"\A[\s,;:.!?)\]}，。；：！？、–—-]+")
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
_QUOTES = {'"': '"', "“": "”", "«": "»", "「": "」", "„": "“", "'": "'"}


#: What a piece is told from others by: its text, syntax and language, and its neighbours.
_Key = tuple[str, Syntax, str, str, str]
NO_TOKENS = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Done:
    """A piece that was translated.

    Attributes:
        text: written as the source's syntax has it; everything that is kept is in it.
        faults: what could not be mended.
        pieced: whether it was put together from parts, because the model lost what was to be kept.
        model: who answered; none where nobody was asked.
        known: whether nobody was asked because it was there already, in the memory or from the same piece before.
    """

    text: str
    faults: tuple[Fault, ...] = ()
    usage: Usage = NO_TOKENS
    pieced: bool = False
    model: str | None = None
    known: bool = False

    @property
    def translated(self) -> bool:
        """Whether nothing of the source stands there for want of a translation."""
        return all(fault.type != "untranslated" for fault in self.faults)


@dataclass(slots=True)
class _Try:
    """An answer and what is wrong with it.

    Attributes:
        cut: whether the model came to its limit of tokens.
    """

    answer: str
    faults: list[Fault]
    usage: Usage
    model: str | None
    cut: bool = False

    @property
    def lost(self) -> bool:
        """Whether something that is kept was lost, doubled or invented."""
        return any(fault.type == "placeholder" for fault in self.faults)

    @property
    def useless(self) -> bool:
        """Whether it is no translation at all."""
        return any(fault.type == "untranslated" for fault in self.faults)

    @property
    def weight(self) -> int:
        """How bad it is."""
        return sum(_GRAVITY[fault.type] for fault in self.faults) + (_NOT_WHOLE if self.cut or not self.answer else 0)


_NOT_WHOLE = 1_000_000
_GRAVITY = {"placeholder": 100, "untranslated": 50, "length": 20, "term": 5, "number": 3}
#: What a model does wrong that translates its neighbours, too.
_BESIDE = frozenset({"placeholder", "untranslated", "length"})


class Translator:
    """Translates pieces with a model of the group."""

    def __init__(self, group: GroupClient, plan: Plan) -> None:
        self._group = group
        self._plan = plan
        self._asked: dict[_Key, asyncio.Task[Done]] = {}
        self._failed: set[_Key] = set()  # since something was translated

    @property
    def strict(self) -> bool:
        """Whether a piece that the model cannot be asked for fails the request."""
        return self._plan.strict

    async def piece(self, text: str, syntax: Syntax, source: Language, before: str = "", after: str = "") -> Done:
        """The translation of ``text``, which is short enough to be asked for at once. What is asked again is answered
        by the first answer, at no cost: tables and catalogues repeat themselves. What failed is asked for again once
        the model has translated something else.

        Raises:
            GroupQwenError: the model cannot be asked.
        """
        key = (text, syntax, source.code, before, after)
        if (same := self._asked.get(key)) is not None:
            return replace(await same, usage=NO_TOKENS, known=True)
        task = self._asked[key] = asyncio.create_task(self._new_piece(text, syntax, source, before, after))
        task.add_done_callback(lambda ended: self._end(key, ended))
        return await task

    def _end(self, key: _Key, ended: asyncio.Task[Done]) -> None:
        if ended.cancelled() or ended.exception() is not None:
            self._failed.add(key)
        elif ended.result().model is not None:
            for failed in self._failed:
                del self._asked[failed]
            self._failed.clear()

    async def _new_piece(self, text: str, syntax: Syntax, source: Language, before: str, after: str) -> Done:
        known = self._known(text, syntax)
        if known is not None:
            return Done(known, known=True)
        whole = masked(text, syntax)
        if not whole.text:
            return Done(text)
        best, usage = await self._best(whole, source, before, after)
        if not best.lost:
            # The source says more than an answer that is no translation of it.
            answer = whole.text if best.useless else best.answer
            return Done(whole.restored(answer), tuple(best.faults), usage, model=best.model)
        return await self._pieced(whole, source, usage, best.model)

    def _known(self, text: str, syntax: Syntax) -> str | None:
        """What the memory has for ``text``, where that keeps what is to be kept."""
        entry = self._plan.memory.exact(text)
        if entry is None:
            return None
        parts = pieces(entry.target, syntax)
        held = kept(text, syntax)
        if kept(entry.source, syntax) != held or sorted(part.text for part in parts if part.kept) != sorted(held):
            return None
        return "".join(part.text if part.kept else written(part.text, syntax) for part in parts)

    async def _best(self, whole: Masked, source: Language, before: str = "", after: str = "") -> tuple[_Try, Usage]:
        """The best of as many answers as are asked for, and what all of them took."""
        plan = self._plan
        task = await asyncio.to_thread(self._told, whole, source, before, after)
        best: _Try | None = None
        usage, wrong = NO_TOKENS, tuple[str, ...]()
        for _ in range(1 + plan.behaviour.retries):
            try:
                one = await self._ask(whole, replace(task, wrong=wrong))
            except GroupQwenError:
                if best is None:
                    raise
                break  # An answer with faults is more than none.
            usage = _sum(usage, one.usage)
            if best is None or one.weight < best.weight:
                best = one
            if not best.faults:
                break
            if one.cut:
                task = replace(task, room=2 * task.room)
            if any(fault.type in _BESIDE for fault in one.faults):
                task = replace(task, before="", after="")
            wrong = tuple(dict.fromkeys(_in_words(fault, whole) for fault in best.faults))
        assert best is not None, "it is asked for at least once"
        return best, usage

    def _told(self, whole: Masked, source: Language, before: str, after: str) -> Task:
        """What is asked for a piece, with the nearest examples that fit. Takes time: for a thread."""
        plan = self._plan
        task = plan.task(whole, source, before, after)
        nearest = plan.memory.nearest(whole.text, plan.behaviour.memory_examples)
        return replace(task, examples=plan.window.examples(task, nearest))

    async def _ask(self, whole: Masked, task: Task) -> _Try:
        plan = self._plan
        body = prompts.request(plan.family, plan.model, task)
        answer = await self._group.chat(body, seconds=plan.behaviour.timeout)
        try:
            choice = answer["choices"][0]
            said = choice["message"]["content"] or ""
            counts = answer.get("usage") or {}
        except (KeyError, IndexError, TypeError) as error:
            raise UpstreamFailed("The model's answer is no chat completion.") from error
        said = _cleaned(said, whole.text)
        usage = Usage(counts.get("prompt_tokens", 0), counts.get("completion_tokens", 0))
        found = faults(whole, said, task.terms, task.source, task.target)
        cut = choice.get("finish_reason") == "length"
        if cut and all(fault.type != "untranslated" for fault in found):
            found.append(_untranslated(whole.text))
        return _Try(said, found, usage, answer.get("model"), cut)

    async def _pieced(self, whole: Masked, source: Language, usage: Usage, model: str | None) -> Done:
        """The texts between what is kept, translated one by one, with what is kept where it stood. One that the model
        cannot be asked for stays, unless that has to fail the request: what was answered so far counts."""
        texts, found = [], list[Fault]()
        for between in whole.between():
            bare = _LEADING.sub("", between).rstrip()
            part = Masked("", bare, "", (), whole.syntax)
            try:
                best, took = await self._best(part, source)
            except GroupQwenError:
                if self.strict:
                    raise
                best, took = _Try(bare, [_untranslated(bare)], NO_TOKENS, model), NO_TOKENS
            usage = _sum(usage, took)
            before, _, after = between.partition(bare)
            if best.lost:
                best = _Try(bare, [_untranslated(bare)], usage, best.model)
            texts.append(before + (bare if best.useless else best.answer) + after)
            found += best.faults
        return Done(whole.around(texts), tuple(found), usage, pieced=True, model=model)


def _cleaned(said: str, source: str) -> str:
    """An answer without what models put around it, on one line as its source is."""
    said = _THOUGHT.sub("", said).strip()
    if (fenced := _FENCE.match(said)) and "```" not in source:
        said = fenced[1].strip()
    if not _COLONS.search(source):
        said = _PREAMBLE.sub("", said)
    close = _QUOTES.get(said[:1])
    if close and len(said) > 2 and said.endswith(close) and source[:1] not in _QUOTES:
        said = said[1:-1]
    # A source is one line; what comes after an empty one is a remark.
    said = said.strip().split("\n\n")[0]
    return re.sub(r"[^\S\n]{0,100}\n\s*", " ", said)


def _untranslated(text: str) -> Fault:
    return Fault("untranslated", text[:120])


def _in_words(fault: Fault, whole: Masked) -> str:
    """A fault as the model is told it."""
    if fault.type == "placeholder":
        marks = [mark for mark, held in zip(whole.marks, whole.held, strict=True) if held == fault.source]
        return f"{marks[0]} must be in it exactly once." if marks else f"{fault.source} does not belong in it."
    if fault.type == "term":
        return f'"{fault.source}" must be translated as "{fault.target}".'
    if fault.type == "number":
        return f"The number {fault.source} is missing."
    return "It was not a translation of the text." if fault.type == "untranslated" else "Its length was wrong."


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(one.prompt_tokens + other.prompt_tokens, one.completion_tokens + other.completion_tokens)
