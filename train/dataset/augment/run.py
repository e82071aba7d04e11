"""A whole augmentation: rows in, copies out, many requests at once, within a budget, and resumed where it stopped."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from serve.errors import GroupQwenError
from serve.handlers.upstream.handler import UpstreamHandler
from serve.settings.model import ModelSettings
from serve.settings.upstream import UpstreamEngine
from train.dataset.augment.checks import Refused
from train.dataset.augment.journal import Journal
from train.dataset.augment.settings import AugmentSettings
from train.dataset.augment.writer import Job, Made, ModelWriter, jobs_of
from train.dataset.disk import whole_file
from train.dataset.formats.inputs import InputError, inputs_of, pieces_of, rows_of
from train.dataset.formats.split import placed
from train.dataset.rows import Row, content_digest

#: Failures in a row, each after its own retries, after which the server is taken for gone.
_MOST_FAILURES = 10


class AugmentStopped(Exception):
    """The server failed too often; what is done is kept in the journal. The message is one line."""


@dataclass(slots=True)
class Augmentation:
    """What was done.

    Attributes:
        read: rows of the input; ``skipped`` of them are not trained on, are copies, or say nothing in words.
        written: rows, of this run and of those that it went on with; ``repeated`` ones say the same as another copy
            of their row, and are left out.
        refused: what the model wrote and was not taken, by reason.
        failed: jobs that the server answered with a failure; another run tries them again.
        left: jobs that the budget left undone.
        tokens: that were used, as the server counts them.
    """

    read: int = 0
    skipped: int = 0
    written: int = 0
    repeated: int = 0
    refused: dict[Refused, int] = field(default_factory=dict)
    failed: int = 0
    left: int = 0
    tokens: int = 0


class _Input(NamedTuple):
    """A row, and what is to be made of it."""

    row: Row
    jobs: list[Job]


def augment(
    inputs: Sequence[Path],
    out: Path,
    settings: AugmentSettings,
    server: UpstreamEngine,
    *,
    progress: Callable[[int], None] = lambda count: None,
) -> Augmentation:
    """Write the file ``out`` of rows made by the model at ``server``, whole or not at all.

    What is done is kept beside it in ``.NAME.journal`` until then, and the same call goes on from there. Rows come in
    the order of the input, whatever the order of the answers.

    Args:
        inputs: as ``formats.inputs_of`` takes them; of a folder that is split, what is trained on.
        server: ``max_connections`` rows are worked on at once.
        progress: told how many bytes of the input are done.

    Raises:
        AugmentStopped: the server fails again and again.
        InputError: an input cannot be used, or is not made of rows; or ``out`` would be lost.
        JournalError: there is a journal of another run.
        SettingsError: the server's key cannot be read.
    """
    done = Augmentation()
    handler = UpstreamHandler(ModelSettings(id="augmentation", handler="upstream", engine=server, max_queued=1))
    said = {
        "augment": settings.model_dump(mode="json", exclude={"budget_tokens", "budget_rows"}),
        "model": server.model,
    }
    path = out.with_name(f".{out.name}.journal")
    _keeps_what_is_there(inputs, out, path)
    with Journal(path, said) as journal:
        run = _Run(settings, ModelWriter(handler, server.model, settings), journal, done, server.max_connections)
        asyncio.run(run.all(handler, _rows(inputs, settings, progress)))
        done.refused, done.tokens = dict(journal.refused), journal.tokens
        with whole_file(out) as file:
            for row in _rows(inputs, settings):
                for copy in _copies(row, journal, done):
                    file.write(copy.to_json())
    if not done.failed and not done.left:
        path.unlink()
    return done


def _keeps_what_is_there(inputs: Sequence[Path], out: Path, journal: Path) -> None:
    """Refuse an ``out`` that is an input, or that another run or hand has written."""
    whole = out.resolve()
    for name in inputs:
        found = name.resolve()
        if found == whole or found in whole.parents:
            what = "is an input too" if found == whole else f"lies in the input {name}"
            raise InputError(f"{out} {what}, and would be lost; name another file")
    if out.exists() and not journal.exists():
        raise InputError(f"{out} is there already; name another file, or remove it")


def _rows(
    inputs: Sequence[Path], settings: AugmentSettings, progress: Callable[[int], None] = lambda count: None
) -> Iterator[_Input]:
    """The rows, but for those of a folder that are kept apart."""
    for piece in pieces_of([one for one in inputs_of(inputs) if one.split in (None, "train")]):
        for number, row in rows_of(piece):
            if not isinstance(row, Row):
                raise InputError(f"{piece.source.path}: line {number}: {row.field or 'the row'}: {row.message}")
            split = piece.source.split or placed(row, settings.split)
            yield _Input(row, jobs_of(row, settings) if split == "train" else [])
        progress(piece.size)


def _copies(found: _Input, journal: Journal, done: Augmentation) -> Iterator[Row]:
    """The rows that were made of one, each once."""
    seen = set()
    for job in found.jobs:
        row = journal.row(job)
        if row is None:
            continue
        digest = content_digest(row.messages)
        if digest in seen:
            done.repeated += 1
            continue
        seen.add(digest)
        done.written += 1
        yield row


class _Run:
    """A run under way."""

    def __init__(
        self, settings: AugmentSettings, writer: ModelWriter, journal: Journal, done: Augmentation, at_once: int
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._journal = journal
        self._done = done
        self._at_once = at_once
        self._failures = 0
        self._under_way = 0

    async def all(self, handler: UpstreamHandler, rows: Iterator[_Input]) -> None:
        """Do every job that is not done, as the budget allows."""
        await handler.load()
        tasks: set[asyncio.Task[None]] = set()
        try:
            for found in rows:
                self._done.read += 1
                self._done.skipped += not found.jobs
                for job in found.jobs:
                    if job.key in self._journal.done:
                        continue
                    while len(tasks) >= self._at_once or (tasks and not self._room()):
                        tasks = await _some(tasks)
                    if not self._room():
                        self._done.left += 1
                        continue
                    self._under_way += 1
                    tasks.add(asyncio.create_task(self._job(job)))
            while tasks:
                tasks = await _some(tasks)
        finally:
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
            await handler.unload()

    def _room(self) -> bool:
        """Whether the budget has room for one job more, beside those under way."""
        tokens, rows = self._settings.budget_tokens, self._settings.budget_rows
        return (tokens is None or self._journal.tokens < tokens) and (
            rows is None or self._journal.made + self._under_way < rows
        )

    async def _job(self, job: Job) -> None:
        try:
            made: Made = await self._writer.make(job, _seed(job))
        except GroupQwenError as error:
            self._done.failed += 1
            self._failures += 1
            if self._failures >= _MOST_FAILURES or error.code == "upstream_auth":
                raise AugmentStopped(f"{error.message} What is done is kept; the same command goes on.") from error
            return
        finally:
            self._under_way -= 1
        self._failures = 0
        self._journal.add(made)


async def _some(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait for at least one task; gives those that go on.

    Raises:
        AugmentStopped: as a task did.
    """
    done, going_on = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    try:
        for task in done:
            task.result()
    except AugmentStopped:
        for task in going_on:
            task.cancel()
        await asyncio.gather(*going_on, return_exceptions=True)
        raise
    return going_on


def _seed(job: Job) -> int:
    """The same job is asked for with the same seed."""
    return int.from_bytes(hashlib.sha256(job.id.encode()).digest()[:4], "big") >> 1
