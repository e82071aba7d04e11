"""Whether a whole group fits into a node's memory, known before anything of it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.models import ready_entry
from serve.models.gguf import NotGguf
from serve.residency.ledger import in_gb
from serve.residency.need import PROCESS_BYTES, Need, need_of
from serve.settings.config import MODEL, Deployment, GroupConfig
from serve.settings.errors import SettingsError
from serve.settings.model import ModelSettings


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the group.

    Attributes:
        need: what one replica takes.
        at_start: replicas that there are whether anyone asks or not.
        most: replicas that there may be.
    """

    settings: ModelSettings
    need: Need
    at_start: int
    most: int

    @property
    def steady(self) -> int:
        """Bytes that it takes whether anyone asks or not."""
        one = PROCESS_BYTES if self._on_demand else self.need.total
        return one * self.at_start

    @property
    def when_asked(self) -> int:
        """Bytes more that one request for it takes, when it is not in memory."""
        if self._on_demand:
            return self.need.model + (0 if self.at_start else PROCESS_BYTES)
        return 0 if self.at_start else self.need.total

    @property
    def _on_demand(self) -> bool:
        return self.settings.residency == "on_demand"


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """The models of a group, and what their node has for them."""

    rows: Sequence[Row]
    limit: int

    @property
    def least(self) -> int:
        """Bytes that the group needs: all that stays in memory, and room for the largest of what comes and goes."""
        return sum(row.steady for row in self.rows) + max((row.when_asked for row in self.rows), default=0)

    @property
    def most(self) -> int:
        """Bytes of every replica that there may be, all in memory."""
        return sum(row.need.total * row.most for row in self.rows)

    @property
    def fits(self) -> bool:
        """Whether the node has what the group needs."""
        return self.least <= self.limit

    def table(self) -> str:
        """The sum, for people."""
        lines = [
            ("MODEL", "WEIGHTS", "CACHE", "OTHER", "ONE REPLICA", "REPLICAS", "RESIDENCY"),
            *map(_cells, self.rows),
        ]
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        text = [
            "  ".join(
                cell.ljust(width) if column in (0, 6) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        note = "" if self.most <= self.limit else "; a replica for which there is no room does not start"
        return "\n".join(
            [
                *text,
                f"needed: {in_gb(self.least)} of {in_gb(self.limit)};"
                f" with every replica in memory: {in_gb(self.most)}{note}",
                *(["a cache of ? is known when the model's file is here"] if _unknown(self.rows) else []),
            ]
        )

    def require_fit(self) -> None:
        """Raise ``SettingsError``, one line with both numbers, when the group does not fit."""
        if not self.fits:
            at_least = "at least " if _unknown(self.rows) else ""
            raise SettingsError(
                f"the group does not fit: it needs {at_least}{in_gb(self.least)} of memory and this node has"
                f" {in_gb(self.limit)} for models; take smaller contexts or fewer slots, residency: on_demand,"
                " min_replicas: 0, or another limit (GROUPQWEN_MEMORY_LIMIT)"
            )


def group_memory(group: GroupConfig, limit: int, *, root: Path | None = None) -> GroupMemory:
    """The sum of ``group``, as far as its files are here.

    Raises:
        SettingsError: a model's file is not what its handler takes.
    """
    deployments = {one.name: one.deployments[0] for one in group.file.applications if one.import_path == MODEL}
    return GroupMemory([_row(model, deployments[model.id], root) for model in group.models], limit)


def _row(model: ModelSettings, deployment: Deployment, root: Path | None) -> Row:
    scaling = deployment.autoscaling_config
    fixed = deployment.num_replicas or 0
    try:
        need = need_of(model, ready_entry(model.id, model.weights, root=root) if model.weights else None)
    except (NotGguf, OSError) as error:
        raise SettingsError(f"{model.id}: {error}") from error
    return Row(
        model,
        need,
        at_start=max(scaling.min_replicas, scaling.initial_replicas) if scaling else fixed,
        most=scaling.max_replicas if scaling else fixed,
    )


def _cells(row: Row) -> tuple[str, ...]:
    cache = "?" if row.need.cache is None else in_gb(row.need.cache)
    replicas = f"{row.at_start}..{row.most}" if row.at_start != row.most else f"{row.most}"
    other = in_gb(row.need.compute + PROCESS_BYTES)
    one = in_gb(row.need.total) + ("+" if row.need.cache is None else "")
    return row.settings.id, in_gb(row.need.weights), cache, other, one, replicas, row.settings.residency


def _unknown(rows: Sequence[Row]) -> bool:
    return any(row.need.cache is None for row in rows)
