"""Whole texts: taken apart, their pieces translated at once, put together in order as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from serve.handlers.translation.detect import Detection, detect
from serve.handlers.translation.document import Document, Segment
from serve.handlers.translation.formats import read
from serve.handlers.translation.languages import AUTO, Language, find_language, languages
from serve.handlers.translation.sentences import cut
from serve.handlers.translation.translator import NO_TOKENS, Done, Translator
from serve.protocol.events import Usage
from serve.protocol.translation import Format

Json = dict[str, Any]

_SURE = 0.55
#: Characters of a segment that take long enough to write out to keep a loop waiting.
_LONG = 20_000


@dataclass(frozen=True, slots=True)
class Source:
    """A text, and what it is in.

    Attributes:
        language: of the text; none where there is nothing to translate.
        notes: what a client should know of it.
    """

    text: str
    document: Document
    language: Language | None
    confidence: float | None
    notes: tuple[str, ...] = ()


def source_of(text: str, format: Format, source_lang: str, target: Language) -> Source:
    """A text taken apart, with its language found where it is not given.

    Raises:
        InvalidRequest: it is not what its format says, or the language is unknown.
    """
    document = read(text, format)
    prose = "\n".join(part.text for part in document if isinstance(part, Segment))
    if not prose:
        return Source(text, [text] if text else [], None, None, ("there is nothing to translate",))
    notes: list[str] = []
    confidence = None
    if source_lang.strip().lower() == AUTO:
        found = detect(prose)
        confidence = found.confidence
        mixed = len(found.shares) > 1
        there = found.code == target.code and confidence >= _SURE and not mixed
        language = target if there else _foreign(found, target)
        notes += [f"source language: {found.note}"] if found.note else []
        if confidence < _SURE:
            notes.append(f"source language: {language.name} is a guess; state source_lang to be sure")
        if mixed:
            document = [_left(part, target) for part in document]
    else:
        language = find_language(source_lang, "source_lang")
    if language.code == target.code:
        return Source(text, [text], language, confidence, (*notes, "the text is in the target language already"))
    return Source(text, document, language, confidence, tuple(notes))


def _foreign(found: Detection, target: Language) -> Language:
    """The likeliest language that is not the target's: what is in that already needs no translation."""
    codes = [found.code, *(code for code, _ in found.alternatives)]
    code = next((code for code in codes if code not in (None, target.code)), None)
    return languages()[code or ("en" if target.code != "en" else "zh")]


def _left(part: str | Segment, target: Language) -> str | Segment:
    """A part of a mixed document; a segment stays as it is where it surely is in the target language."""
    if isinstance(part, str):
        return part
    found = detect(part.text)
    stays = found.code == target.code and found.confidence >= _SURE and len(found.shares) < 2
    return part.render(part.text) if stays else part


@dataclass(slots=True)
class Report:
    """What became of one text.

    Attributes:
        pieced: pieces whose kept parts the model lost, and which were put together from parts.
        model: who answered.
    """

    violations: list[Json] = field(default_factory=list)
    pieced: int = 0
    usage: Usage = NO_TOKENS
    model: str | None = None

    def add(self, done: Done) -> None:
        """Take one piece."""
        self.violations += [fault.body() for fault in done.faults]
        self.pieced += done.pieced
        self.model = done.model or self.model
        self.usage = Usage(
            self.usage.prompt_tokens + done.usage.prompt_tokens,
            self.usage.completion_tokens + done.usage.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Lengths:
    """The most characters of a piece, and of what is shown of its neighbour before it."""

    segment: int
    context: int


@dataclass(frozen=True, slots=True)
class _Work:
    """A piece to translate."""

    text: str
    segment: Segment
    context: str


class Translation:
    """A text that is being translated; its pieces are asked for from the beginning on.

    Attributes:
        source: the text.
        report: what became of it so far.
    """

    def __init__(
        self, source: Source, works: Sequence[Sequence[_Work]], translator: Translator, gate: asyncio.Semaphore
    ) -> None:
        self.source = source
        self.report = Report()
        self._translator = translator
        self._gate = gate
        self._tasks = [[asyncio.create_task(self._do(work)) for work in of_one] for of_one in works]

    async def parts(self) -> AsyncGenerator[str, None]:
        """The parts of the translation in order, each as soon as it and all before it are there."""
        waiting = iter(self._tasks)
        for part in self.source.document:
            if isinstance(part, str):
                yield part
                continue
            texts = []
            for task in next(waiting):
                done = await task
                self.report.add(done)
                if part.joins:  # Only the whole of it can be broken into lines.
                    texts.append(done.text)
                else:
                    yield part.render(done.text)
            if not texts:
                continue
            said = "".join(texts)
            yield await asyncio.to_thread(part.render, said) if len(said) > _LONG else part.render(said)

    async def whole(self) -> str:
        """The whole translation."""
        return "".join([part async for part in self.parts()])

    async def close(self) -> None:
        """Stop what is still asked for."""
        tasks = [task for of_one in self._tasks for task in of_one]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _do(self, work: _Work) -> Done:
        language = self.source.language
        assert language is not None, "without one nothing is asked for"
        bare = work.text.strip()
        before, _, after = work.text.partition(bare)
        async with self._gate:
            done = await self._translator.piece(bare, work.segment.syntax, language, work.context)
        return replace(done, text=before + done.text + after)


@asynccontextmanager
async def translating(
    sources: Sequence[Source], translator: Translator, lengths: Lengths, parallel: int
) -> AsyncIterator[list[Translation]]:
    """Translate texts, ``parallel`` pieces of all of them at once; what is not done at the end is given up."""
    gate = asyncio.Semaphore(parallel)
    works = await asyncio.to_thread(lambda: [list(_works(source, lengths)) for source in sources])
    running = [Translation(source, of_it, translator, gate) for source, of_it in zip(sources, works, strict=True)]
    try:
        yield running
    finally:
        await asyncio.gather(*(one.close() for one in running))


def _works(source: Source, lengths: Lengths) -> Iterator[Sequence[_Work]]:
    """The pieces of each segment, each with the end of what stands before it."""
    before = ""
    for part in source.document if source.language else ():
        if isinstance(part, str):
            continue
        works = []
        for text in cut(part.text, part.syntax, lengths.segment):
            works.append(_Work(text, part, _tail(before, lengths.context)))
            before = text
        yield works


def _tail(text: str, most: int) -> str:
    """The end of ``text``, from the beginning of a word on."""
    text = text.strip()
    if len(text) <= most:
        return text
    end = text[len(text) - most :] if most else ""
    return end.partition(" ")[2] or end
