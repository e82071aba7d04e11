"""Keeps files: a content in the folder and a row in the database, together or not at all."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from filelock import Timeout

from serve.errors import Conflict, ContentMissing, NotFound, StorageFull, Unavailable
from serve.store import FileRoom, Store, StoredFile
from serve.store.contents import Change, Contents
from serve.watch import Watch

_THREADS = 4
_COPY_BYTES = 1024 * 1024
_SWEEP_SECONDS = 3600.0

T = TypeVar("T")
P = ParamSpec("P")

logger = logging.getLogger(__name__)


class Keeper(Watch):
    """The one who changes files. What blocks runs on threads of its own."""

    def __init__(self, store: Store, contents: Contents) -> None:
        super().__init__()
        self._rows = store.files
        self._contents = contents
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop sweeping; what is being kept or removed is finished."""
        await super().close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False)

    def change(self, id: str) -> Change:
        """A change of a file's content, which the caller has to ``keep`` or to ``discard``."""
        return self._contents.change(id)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks on a thread.

        Raises:
            StorageFull: the disk has no room.
        """
        try:
            return await asyncio.wrap_future(self._threads.submit(call, *args, **kwargs))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("There is no room on the disk for this file.", param="file") from error
            raise

    async def open(self, file: StoredFile) -> IO[bytes]:
        """A file's content; ``close`` it.

        Raises:
            ContentMissing: it cannot be read here.
        """
        try:
            return await self.run(self._contents.open, file.id)
        except OSError as error:
            logger.error("a content cannot be read; does every gateway see GROUPQWEN_FILES_DIR?", exc_info=error)
            raise ContentMissing(file.id) from error

    async def copy(self, file: StoredFile, target: Path) -> None:
        """Copy a file's content.

        Raises:
            ContentMissing: it cannot be read here.
            StorageFull: the disk has no room for the copy.
        """
        content = await self.open(file)
        try:
            await self.run(_copied, content, target)
        finally:
            self.close_content(content)

    def close_content(self, content: IO[bytes]) -> None:
        """Close a content once the read that is under way has ended, which an event loop must not wait for."""
        self._threads.submit(content.close)

    async def discard(self, change: Change) -> None:
        """Remove what was written; goes on where the caller is cancelled."""
        await asyncio.shield(asyncio.wrap_future(self._threads.submit(change.end)))

    async def keep(self, change: Change, file: StoredFile, room: FileRoom) -> None:
        """Give the content its name, then the file its row; goes on where the caller is cancelled.

        Raises:
            InvalidRequest: there is no room for it; nothing is kept.
        """
        await self._whole(self._keep(change, file, room))

    async def remove(self, file: StoredFile) -> None:
        """Delete a file's row, then its content; goes on where the caller is cancelled.

        Raises:
            NotFound: it has been deleted meanwhile.
            Conflict: somebody else is deleting it.
        """
        await self._whole(self._remove(file.id, partial(self._rows.delete, file.id, file.tenant)))

    async def sweep(self) -> None:
        """Delete files that have expired, and what processes have left behind that were killed at work.

        Raises:
            GroupQwenError, OSError: the database or the folder does not answer.
        """
        for id in await self._rows.expired():
            try:
                await self._remove(id, partial(self._rows.drop, id))
            except Conflict:
                continue  # Another replica is at it.
        for id in await self.run(self._contents.changing):
            change = self._contents.change(id)
            try:
                await self.run(change.begin)
            except Timeout:
                continue  # It is under way.
            try:
                await self._settle(change, id)
            finally:
                await self.run(change.leave)

    async def _settle(self, change: Change, id: str) -> None:
        """End what somebody has begun: a content without a row goes."""
        if not await self._rows.known(id):
            await self.run(change.remove)
        await self.run(change.end)

    async def _keep(self, change: Change, file: StoredFile, room: FileRoom) -> None:
        try:
            await self.run(change.keep)
            try:
                await self._rows.add(file, room)
            except Unavailable:
                # Nobody knows whether the row was written.
                await self.run(change.leave)
                raise
            except BaseException:
                await self.run(change.remove)
                raise
        finally:
            await self.run(change.end)

    async def _remove(self, id: str, drop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        change = self._contents.change(id)
        try:
            await self.run(change.begin)
        except Timeout:
            raise Conflict(f"The file {id!r} is being deleted by somebody else.") from None
        try:
            await drop()
            await self.run(change.remove)
            await self.run(change.end)
        except NotFound:  # Somebody else has deleted it meanwhile, or was killed at it.
            await self._settle(change, id)
            raise
        finally:
            await self.run(change.leave)

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001  # The next sweep does it; nothing depends on it.
                logger.warning("the files could not be swept: %s", error)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _whole(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for work that goes on when the request that began it is cancelled."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)


def _copied(content: IO[bytes], target: Path) -> None:
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    with part.open("wb") as copy:
        shutil.copyfileobj(content, copy, _COPY_BYTES)
    part.replace(target)
