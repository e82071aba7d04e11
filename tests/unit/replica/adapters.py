"""A handler that takes adapters, and a replica that keeps them, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from serve.adapters.files import WEIGHTS
from serve.adapters.manifest import Base
from serve.adapters.registry import Registry
from serve.errors import AdapterRefused
from serve.protocol.events import Delta, Usage
from serve.replica.adapters import Adapters
from serve.settings.model import ModelUserConfig
from tests.peft import save, tensors
from tests.unit.replica.models import Scripted

BASE = Base(model="m")
NOTHING = ModelUserConfig()


class Taking(Scripted):
    """Takes every adapter but those of which a test says otherwise.

    Attributes:
        has: the adapters that are loaded, with the bytes of their weights.
        history: every name that was added (+) or removed (-).
        failures: raised for an adapter whose name begins so.
        gate: closed, a load waits for it.
    """

    def __init__(self, *steps: Any, **fields: Any) -> None:
        super().__init__(*(steps or [(Delta(text="hello", finish_reason="stop"), Usage(3, 1))]), **fields)
        self.has: dict[str, bytes] = {}
        self.history: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.template: str | None = None

    @property
    def chat_template_sha256(self) -> str | None:
        return self.template

    async def add_adapter(self, name: str, folder: Path) -> None:
        await self.gate.wait()
        assert name not in self.has, "added twice"
        for prefix, failure in self.failures.items():
            if name.startswith(prefix):
                raise failure
        self.history.append(f"+{name}")
        self.has[name] = (folder / WEIGHTS).read_bytes()

    async def remove_adapter(self, name: str) -> None:
        self.history.append(f"-{name}")
        del self.has[name]


class Kept:
    """A replica's adapters under test.

    Attributes:
        registry: where a test publishes.
    """

    def __init__(self, handler: Taking, folder: Path) -> None:
        self.handler = handler
        self.folder = folder
        self.registry = Registry(folder / "registry")
        self.adapters = Adapters(handler, self.registry, folder / "copies")

    def source(self, seed: int = 0) -> Path:
        """A small PEFT folder; another seed is another content."""
        weights = tensors({"model.layers.0.self_attn.q_proj": (8, 8)}, seed=seed)
        return save(self.folder / f"source-{seed}", weights)

    def publish(self, name: str, seed: int = 0, base: Base = BASE, **known: Any) -> str:
        """Publish an adapter; gives the handler's name of it."""
        return f"{name}@{self.registry.publish(base, name, self.source(seed), **known).version}"

    def states(self) -> dict[str, str]:
        """The state of every adapter."""
        return {one["name"]: one["state"] for one in self.adapters.info()}

    async def until(self, done: Callable[[], object]) -> None:
        """Have it look again and again until something holds."""
        async with asyncio.timeout(20):
            while not done():
                self.adapters.configure(self.adapters._behaviour)
                await asyncio.sleep(0.005)


@asynccontextmanager
async def kept(folder: Path, handler: Taking | None = None) -> AsyncIterator[Kept]:
    """Adapters that are kept until the end."""
    found = Kept(handler or Taking(), folder)
    found.adapters.start()
    try:
        yield found
    finally:
        await found.adapters.close()


def refusal(reason: str) -> AdapterRefused:
    """A handler's refusal."""
    return AdapterRefused(reason)
