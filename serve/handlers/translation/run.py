"""Whole texts: their pieces translated at once, put together in order as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from serve.errors import GroupQwenError
from serve.handlers.translation.document import Entry
from serve.handlers.translation.masks import masked
from serve.handlers.translation.plan import Plan
from serve.handlers.translation.progress import Progress
from serve.handlers.translation.source import Source
from serve.handlers.translation.translator import NO_TOKENS, Done, Translator
from serve.handlers.translation.works import Work, works_of
from serve.protocol.events import Usage
from serve.tasks.client import GroupClient

Json = dict[str, Any]

#: Characters of a segment that take long enough to write out to keep a loop waiting.
_LONG = 20_000
#: Characters of a passage that a report shows.
_SHOWN = 120


@dataclass(slots=True)
class Report:
    """What became of one text.

    Attributes:
        pieced: pieces whose kept parts the model lost, and which were put together from parts.
        failed: pieces that the model could not be asked for, and which stand there as they were.
        model: who answered.
    """

    violations: list[Json] = field(default_factory=list)
    pieced: int = 0
    failed: int = 0
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

    def add_failed(self, work: Work, error: GroupQwenError) -> None:
        """Take one piece that failed, with its place."""
        self.failed += 1
        place = {"segment": work.number, "line": work.line}
        reason = {"reason": error.message, "code": error.code}
        self.violations.append({"type": "failed", "source": work.text.strip()[:_SHOWN], **place, **reason})


@dataclass(frozen=True, slots=True)
class _Lost:
    """A piece that the model could not be asked for.

    Attributes:
        text: as the source has it, written as a translation would be.
    """

    work: Work
    text: str
    error: GroupQwenError
    translated = False


class Translation:
    """A text that is being translated; its pieces are asked for from the beginning on.

    Attributes:
        source: the text.
        report: what became of it so far.
    """

    def __init__(
        self,
        source: Source,
        works: Sequence[Sequence[Work]],
        translator: Translator,
        gate: asyncio.Semaphore,
        progress: Progress,
    ) -> None:
        self.source = source
        self.report = Report()
        self._translator = translator
        self._gate = gate
        self._progress = progress
        self._tasks = [[asyncio.create_task(self._do(work)) for work in of_one] for of_one in works]

    async def parts(self) -> AsyncGenerator[str, None]:
        """The parts of the translation in order, each as soon as it and all before it are there.

        Raises:
            GroupQwenError: a piece failed, and so did every other, or it has to fail the request.
        """
        waiting = iter(self._tasks)
        for part in self.source.document:
            if isinstance(part, str):
                yield part
                continue
            if isinstance(part, Entry):
                yield await self._entry(part, waiting)
                continue
            texts: list[str] = []
            lost = True  # as long as all of it is
            for task in next(waiting):
                done = await self._taken(task)
                lost = lost and isinstance(done, _Lost)
                texts.append(done.text)
                if not lost and not part.joins:  # Only the whole of it can be broken into lines.
                    yield part.render("".join(texts))
                    texts = []
            if lost:
                yield part.untouched
            elif said := "".join(texts):
                yield await asyncio.to_thread(part.render, said) if len(said) > _LONG else part.render(said)

    async def whole(self) -> str:
        """The whole translation. Raises as ``parts``."""
        return "".join([part async for part in self.parts()])

    async def close(self) -> None:
        """Stop what is still asked for."""
        tasks = [task for of_one in self._tasks for task in of_one]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _entry(self, entry: Entry, waiting: Iterator[list[asyncio.Task[Done | _Lost]]]) -> str:
        texts: list[str] = []
        whole = True
        for part in entry.parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            done = [await self._taken(task) for task in next(waiting)]
            whole = whole and all(one.translated for one in done)
            texts.append(part.render("".join(one.text for one in done)))
        return "".join(texts) if whole else entry.raw

    async def _taken(self, task: asyncio.Task[Done | _Lost]) -> Done | _Lost:
        """A piece once it is there, and reported."""
        done = await task
        if isinstance(done, _Lost):
            await self._progress.settle()
            self.report.add_failed(done.work, done.error)
        else:
            self.report.add(done)
        return done

    async def _do(self, work: Work) -> Done | _Lost:
        try:
            return await self._tried(work)
        except BaseException:
            self._progress.abort()
            raise

    async def _tried(self, work: Work) -> Done | _Lost:
        language = self.source.language
        assert language is not None, "without one nothing is asked for"
        bare, syntax = work.text.strip(), work.segment.syntax
        before, _, after = work.text.partition(bare)
        async with self._gate:
            try:
                self._progress.check()
                done = await self._translator.piece(bare, syntax, language, work.before, work.after)
            except GroupQwenError as error:
                if self._translator.strict:
                    raise
                self._progress.fail(error)
                whole = masked(bare, syntax)
                return _Lost(work, before + whole.restored(whole.text) + after, error)
        asked = done.model is not None and not done.known
        self._progress.end(translated=asked or done.known, asked=asked)
        return replace(done, text=before + done.text + after)


@asynccontextmanager
async def translating(sources: Sequence[Source], group: GroupClient, plan: Plan) -> AsyncIterator[list[Translation]]:
    """Translate texts, some pieces of all of them at once; what is not done at the end is given up.

    Raises:
        InvalidRequest: as ``works_of``.
    """
    parallel = plan.behaviour.parallel
    works = await asyncio.to_thread(lambda: [works_of(source, plan) for source in sources])
    # A model that is lost for a moment loses what it is at, and is asked as much again before it is given up.
    progress = Progress(sum(len(of_one) for of_text in works for of_one in of_text), row=2 * parallel)
    translator, gate = Translator(group, plan), asyncio.Semaphore(parallel)
    running = [
        Translation(source, of_it, translator, gate, progress) for source, of_it in zip(sources, works, strict=True)
    ]
    try:
        yield running
    finally:
        await asyncio.gather(*(one.close() for one in running))
