"""The adapters of one replica: what is wanted of it, what it has, and how the one becomes the other.

Wanted is what the registry and the ``user_config`` say. A task looks every ``POLL_SECONDS``, off the event loop, and
loads and removes one adapter after another. A content is loaded under a name of its own before it takes the place of
an older one, and an old one is removed when the last request on it has ended, so a change is never seen half done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from serve.adapters.errors import BadAdapter, RegistryError, StorageFailed, WrongFiles
from serve.adapters.files import (
    CONFIG,
    WEIGHTS,
    read_plain,
    remove_unused,
    sha256,
    signature,
    version_of,
    write_durably,
)
from serve.adapters.manifest import Manifest
from serve.adapters.registry import Registry, read_version
from serve.errors import AdapterLoading, AdapterNotFound, AdapterRefused, Unavailable
from serve.handlers.base import Handler
from serve.models.place import user_path
from serve.models.wanted import base_sha256
from serve.settings.model import ModelUserConfig
from serve.watch import Watch

#: An adapter is to be served 5 s after it was published; the rest of that is for loading it.
POLL_SECONDS = 2.0
#: A request for an adapter that is not known makes the replica look; many of them make it look once in this time.
_MISS_SECONDS = 0.5
_LOOK_SECONDS = 2.0
#: A load that takes longer is given up, so that others get their turn.
_LOAD_SECONDS = 120.0
#: What failed for a reason that may pass is tried again after so long.
_RETRY_SECONDS = 5.0
_UNUSED_COPY_DAYS = 30.0

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An adapter that is to be served.

    Attributes:
        folder: where its files lie.
        mark: differs when there is something new to load.
        manifest: what the registry says of it; none where it comes from the config.
        fault: why it cannot be served, where that is known without its files.
    """

    name: str
    folder: Path
    mark: Hashable
    manifest: Manifest | None = None
    fault: str = ""


@dataclass(eq=False, slots=True)
class Version:
    """One content of an adapter, loaded.

    Attributes:
        key: what the handler calls it.
        running: requests on it.
    """

    key: str
    version: str
    running: int = 0


@dataclass(slots=True)
class Entry:
    """What became of an adapter.

    Attributes:
        wanted: what is to be served. tried: the mark that was last loaded, or refused.
        serving: what answers new requests.
        reason: why it is refused. retry_at: when to try once more, where that makes sense.
    """

    wanted: Wanted
    tried: Hashable = None
    serving: Version | None = None
    reason: str = ""
    retry_at: float | None = None

    @property
    def state(self) -> Literal["ready", "loading", "refused"]:
        """Whether it answers, will answer, or cannot."""
        if self.serving:
            return "ready"
        return "refused" if self.reason else "loading"


@dataclass(slots=True)
class _Failure:
    reason: str
    may_pass: bool = field(default=False, kw_only=True)


class Adapters(Watch):
    """Keeps a handler's adapters as they are wanted.

    Args:
        copies: a folder of this node for copies of the files, so that what was checked is what is loaded, and stays.
    """

    def __init__(self, handler: Handler, registry: Registry, copies: Path) -> None:
        super().__init__()
        self._handler = handler
        self._model = handler.settings.id
        self._registry = registry
        self._copies = copies
        self._behaviour = ModelUserConfig()
        self._entries: dict[str, Entry] = {}
        self._old: list[Version] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="adapters")
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._fault = ""

    async def close(self) -> None:
        """Stop looking; what is loaded stays with the handler."""
        await super().close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def configure(self, behaviour: ModelUserConfig) -> None:
        """Take a new ``user_config``, at once."""
        self._behaviour = behaviour
        self._looked_at = float("-inf")
        self._wake.set()

    def forget(self) -> None:
        """Load everything again: the model was taken out of memory, its adapters with it, and is there anew. No
        request may run on any of them."""
        self._old.clear()
        for entry in self._entries.values():
            entry.serving, entry.tried = None, None
        self._wake.set()

    def info(self) -> list[dict[str, Any]]:
        """Every adapter: name, state, version, reason; plain data."""
        return [
            {
                "name": name,
                "state": entry.state,
                "version": entry.serving.version if entry.serving else None,
                "reason": entry.reason,
            }
            for name, entry in sorted(self._entries.items())
        ]

    def version_of(self, name: str) -> str | None:
        """Which content of the adapter ``name`` answers new requests; none while it does not."""
        entry = self._entries.get(name)
        return entry.serving.version if entry and entry.serving else None

    @asynccontextmanager
    async def using(self, name: str | None) -> AsyncIterator[str | None]:
        """Run a request on the adapter ``name``; gives the handler's name of what it runs on to its end.

        Raises:
            AdapterNotFound, AdapterRefused, AdapterLoading: it cannot be used, or not yet.
            Unavailable: it is not known, and the registry cannot be asked.
        """
        if name is None:
            yield None
            return
        version = await self._find(name)
        version.running += 1
        try:
            yield version.key
        finally:
            version.running -= 1
            if not version.running and version in self._old:
                self._wake.set()

    async def _find(self, name: str) -> Version:
        if name not in self._entries:
            # It may have been published a moment ago.
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(min(_MISS_SECONDS, self._looked_at + _MISS_SECONDS - now))
            await self._look(unless_since=now)
            self._wake.set()
        entry = self._entries.get(name)
        if entry is None:
            if self._fault:
                raise Unavailable(f"The adapter '{self._model}:{name}' is not known: {self._fault}.", retry_after=5)
            known = [one for one, found in self._entries.items() if found.state != "refused"]
            raise AdapterNotFound(self._model, name, known)
        if entry.serving:
            return entry.serving
        if entry.state == "refused":
            raise AdapterRefused(f"The adapter '{self._model}:{name}' was refused: {entry.reason.rstrip('.')}.")
        raise AdapterLoading(self._model, name)

    async def _run(self) -> None:
        """Look, load what is new, remove what is old, sleep; for ever."""
        try:
            await self._on_storage(remove_unused, self._copies, _UNUSED_COPY_DAYS)
        except OSError:
            logger.warning("old copies of adapters could not be removed", exc_info=True)
        while True:
            self._wake.clear()
            try:
                await self._look()
                entry = self._next()
                if entry is not None:
                    await self._load(entry)
                await self._remove_old()
            except Exception:
                logger.exception("the adapters could not be kept", extra={"model": self._model})
                entry = None
            if entry is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._wake.wait()

    async def _on_storage(self, work: Callable[P, R], *arguments: P.args, **_: P.kwargs) -> R:
        """Do something that storage may hang in, on the one thread for that; requests need the others."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _look(self, *, unless_since: float = float("inf")) -> None:
        """See what is wanted now, unless somebody has looked since. What cannot be asked stays as it was."""
        async with self._looking:
            if self._looked_at >= unless_since:
                return
            self._looked_at = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    wanted = await self._on_storage(self._wanted, self._behaviour)
            except (RegistryError, TimeoutError) as failure:
                fault = str(failure) or "the storage does not answer"
                if fault != self._fault:
                    logger.warning("the adapter registry cannot be read", extra={"reason": fault})
                self._fault = fault
                return
            self._fault = ""
        for name in self._entries.keys() - wanted.keys():
            self._retire(self._entries.pop(name))
        for name, one in wanted.items():
            entry = self._entries.setdefault(name, Entry(one))
            if entry.wanted.mark != one.mark:
                entry.reason = ""  # It is another one now.
            entry.wanted = one

    def _wanted(self, behaviour: ModelUserConfig) -> dict[str, Wanted]:
        """What the registry and the config say; on a thread."""
        found: dict[str, Wanted] = {}
        for one in self._registry.list(self._model) if behaviour.adapter_registry else ():
            before = self._entries.get(one.name)
            if one.may_pass and before:
                found[one.name] = before.wanted
                continue
            manifest = one.manifest
            folder = self._registry.folder(manifest) if manifest else self._registry.root
            mark = manifest.model_dump_json() if manifest else one.fault
            found[one.name] = Wanted(one.name, folder, mark, manifest, one.fault)
        for source in behaviour.adapters:
            folder = user_path(source.path)
            try:
                marks = tuple(signature(folder / file) for file in (CONFIG, WEIGHTS))
                found[source.name] = Wanted(source.name, folder, (str(folder), marks))
            except StorageFailed as failure:
                fault = Wanted(source.name, folder, str(failure), fault=str(failure))
                before = self._entries.get(source.name)
                found[source.name] = before.wanted if before else fault
        return found

    def _next(self) -> Entry | None:
        """The next adapter to load: one that was not tried yet, before one that failed and may be tried again."""
        for entry in self._entries.values():
            if entry.tried != entry.wanted.mark:
                return entry
        now = asyncio.get_running_loop().time()
        due = (one for one in self._entries.values() if one.retry_at is not None and one.retry_at <= now)
        return next(due, None)

    async def _load(self, entry: Entry) -> None:
        """Load what is wanted, and let it take the place of what was served."""
        wanted = entry.wanted
        entry.tried, entry.retry_at = wanted.mark, None
        done = await self._added(wanted)
        log = {"model": self._model, "adapter": wanted.name}
        if isinstance(done, _Failure):
            entry.reason = done.reason
            if done.may_pass:  # What was served before goes on.
                entry.retry_at = asyncio.get_running_loop().time() + _RETRY_SECONDS
            else:
                self._retire(entry)
            logger.warning("an adapter was refused", extra={**log, "reason": done.reason})
            return
        before, entry.serving, entry.reason = entry.serving, done, ""
        if before is not None and before is not done:
            self._old.append(before)
        if self._entries.get(wanted.name) is not entry:  # It was withdrawn meanwhile.
            self._retire(entry)
        logger.info("an adapter is ready", extra={**log, "version": done.version})

    async def _added(self, wanted: Wanted) -> Version | _Failure:
        """``wanted`` loaded into the handler, or why not."""
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                version, folder = await self._on_storage(self._copy, wanted)
                key = f"{wanted.name}@{version}"
                known = [entry.serving for entry in self._entries.values() if entry.serving]
                for one in [*known, *self._old]:
                    if one.key == key:  # It is still there.
                        self._old = [old for old in self._old if old is not one]
                        return one
                await self._handler.add_adapter(key, folder)
                return Version(key, version)
        except (AdapterRefused, BadAdapter) as refusal:
            return _Failure(str(refusal), may_pass=isinstance(refusal, WrongFiles))
        except Unavailable:  # The model itself is not in memory now.
            return _Failure("", may_pass=True)
        except TimeoutError:
            return _Failure(f"it was not loaded after {_LOAD_SECONDS:g} s")
        except (RegistryError, OSError) as failure:
            return _Failure(str(failure), may_pass=True)
        except Exception:
            logger.exception("an adapter could not be loaded", extra={"model": self._model, "adapter": wanted.name})
            return _Failure("it could not be loaded; the model's log says why", may_pass=True)

    def _copy(self, wanted: Wanted) -> tuple[str, Path]:
        """Check an adapter's files and copy them to this node; gives its version and the copy. On a thread.

        Raises:
            BadAdapter, StorageFailed
        """
        if wanted.fault:
            raise BadAdapter(wanted.fault)
        if wanted.manifest is not None:
            self._check_base(wanted.manifest)
            contents = read_version(wanted.folder, wanted.manifest)
        else:
            contents = {name: read_plain(wanted.folder, name) for name in (CONFIG, WEIGHTS)}
        version = version_of({name: sha256(content) for name, content in contents.items()})
        folder = self._copies / version
        for name, content in contents.items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != len(content):
                write_durably(folder, name, content)
        folder.touch()
        return version, folder

    def _check_base(self, manifest: Manifest) -> None:
        weights = self._handler.settings.weights
        base = base_sha256(weights) if weights is not None else None
        fitting = manifest.base.weights_sha256
        if base is not None and fitting and base not in fitting:
            raise BadAdapter(f"it was made for other weights than those served (SHA-256 {base[:12]}...)")
        template, served = manifest.base.chat_template_sha256, self._handler.chat_template_sha256
        if template and served and template != served:
            raise BadAdapter("it was trained with another chat template than the one served")

    def _retire(self, entry: Entry) -> None:
        if entry.serving is not None:
            self._old.append(entry.serving)
            entry.serving = None

    async def _remove_old(self) -> None:
        for version in [one for one in self._old if not one.running]:
            self._old.remove(version)
            await self._handler.remove_adapter(version.key)
            logger.info("an adapter was removed", extra={"model": self._model, "adapter": version.key})
