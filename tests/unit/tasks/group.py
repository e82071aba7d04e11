"""A task beside a gateway in this process: the task asks the gateway over real HTTP, and that relays to the task."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from serve.handlers.base import Handler
from serve.settings.task import TASKS, task_settings
from serve.tasks.app import TaskApp
from serve.tasks.base import TaskHandler, task_class
from serve.tasks.client import GroupClient
from serve.tasks.metrics import TaskMetrics
from tests.unit.gateway.group import Group, group, listening, running
from tests.unit.replica.models import TOKEN

Json = dict[str, Any]


@dataclass
class TaskGroup:
    """A gateway, its models, and one task.

    Attributes:
        url: where the gateway listens.
        client: asks it as a person at this machine.
    """

    gateway: Group
    handler: TaskHandler
    url: str
    client: httpx.AsyncClient


@asynccontextmanager
async def task_group(
    folder: Path, task: str, *models: Handler, user_config: Json | None = None, **gateway_config: Any
) -> AsyncIterator[TaskGroup]:
    """A running group with the task called ``task``, whose application has the same name."""
    async with group(folder, *models, **gateway_config) as gateway, listening(gateway.app) as address:
        settings = task_settings({"id": task, "task": task}, "args")
        client = GroupClient(f"http://{address}", TOKEN)
        behaviour = TASKS[task].user_config.model_validate(user_config or {})
        handler = task_class(task)(settings, client, behaviour)
        await handler.load()
        gateway.transport.apps[task] = TaskApp(handler, TOKEN, TaskMetrics(task)).asgi
        await gateway.refresh(**{task: running(task, task=task)})
        try:
            async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as asking:
                yield TaskGroup(gateway, handler, f"http://{address}", asking)
        finally:
            await client.close()
