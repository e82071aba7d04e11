"""The contract that every task keeps, and the registry that finds one by name."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.types import Scope, Send

from serve.settings.base import Settings
from serve.settings.task import TaskSettings
from serve.tasks.client import GroupClient

#: Gets the request's scope and body.
Endpoint = Callable[[Scope, bytes, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class TaskRoute:
    """An address that a task answers; the gateway serves the same one to clients."""

    method: str
    path: str
    endpoint: Endpoint


class TaskHandler(ABC):
    """One task in one replica.

    Attributes:
        behaviour: the ``user_config``, of the task's class in ``serve.settings.task.TASKS``; replaced when the
            deployment is reconfigured, read once by each request.
    """

    def __init__(self, settings: TaskSettings, group: GroupClient, behaviour: Settings) -> None:
        self.settings = settings
        self.group = group
        self.behaviour = behaviour

    @abstractmethod
    def routes(self) -> Sequence[TaskRoute]:
        """What it answers. Errors are raised (``serve.errors``); to cancel a request, its endpoint is cancelled."""

    async def load(self) -> None:
        """Make ready whatever takes long, before the first request."""
        return


#: Name in a config -> where the class is; imported only where the task runs.
HANDLERS: dict[str, str] = {
    "translation": "serve.handlers.translation.handler:TranslationHandler",
    "vision": "serve.handlers.vision.handler:VisionHandler",
}


def task_class(name: str) -> type[TaskHandler]:
    """The class of the task called ``name``, which the settings have checked."""
    module, _, attribute = HANDLERS[name].partition(":")
    found: type[TaskHandler] = getattr(importlib.import_module(module), attribute)
    return found
