"""The workers of a run among each other, over the process group that Ray Train has made."""

from __future__ import annotations

from typing import Any


def rank() -> int:
    """Which worker this is, from 0."""
    return _group().get_rank() if size() > 1 else 0


def size() -> int:
    """How many workers there are."""
    group = _group()
    return group.get_world_size() if group.is_initialized() else 1


def from_first(value: Any) -> Any:
    """The first worker's ``value``, for all."""
    if size() == 1:
        return value
    held = [value]
    _group().broadcast_object_list(held, src=0)
    return held[0]


def from_all(value: Any) -> list[Any]:
    """The values of all workers, for all, in their order. Nobody goes on before everybody is here."""
    if size() == 1:
        return [value]
    held: list[Any] = [None] * size()
    _group().all_gather_object(held, value)
    return held


def _group() -> Any:
    import torch.distributed

    return torch.distributed
