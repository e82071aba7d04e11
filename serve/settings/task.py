"""The ``args`` and ``user_config`` of a task application: a handler that asks models of the group.

``args`` is the structure (id and task), ``user_config`` the task's behaviour, which changes live. Each task has
classes of its own for both, named in ``TASKS``.
"""

from __future__ import annotations

from dataclasses import dataclass

from serve.settings.base import Settings
from serve.settings.errors import SettingsError, parsed
from serve.settings.model import ModelId
from serve.settings.suggest import one_of
from serve.settings.translation import TranslationUserConfig
from serve.settings.vision import VisionUserConfig


class TaskSettings(Settings):
    """Structure of one task: a change here needs new replicas.

    Attributes:
        id: the application's name and the last part of its route, ``/t/<id>``.
        task: what it does; a group has at most one application of each.
    """

    id: ModelId
    task: str


@dataclass(frozen=True)
class TaskKind:
    """The classes of one task's settings."""

    args: type[TaskSettings]
    user_config: type[Settings]


TASKS: dict[str, TaskKind] = {
    "translation": TaskKind(TaskSettings, TranslationUserConfig),
    "vision": TaskKind(TaskSettings, VisionUserConfig),
}


def task_kind(args: object, where: str) -> TaskKind:
    """The classes for the task that ``args``, which stand at ``where``, name.

    Raises:
        SettingsError: they name none.
    """
    name = args.get("task") if isinstance(args, dict) else None
    if not isinstance(name, str):
        raise SettingsError(f"{where}.task: this key is required; allowed: {', '.join(sorted(TASKS))}")
    if name not in TASKS:
        raise SettingsError(f"{where}.task: {one_of('task', name, TASKS)}")
    return TASKS[name]


def task_settings(args: object, where: str) -> TaskSettings:
    """``args`` as the settings of the task that they name.

    Raises:
        SettingsError: one line for each fault.
    """
    return parsed(task_kind(args, where).args, args, where)
