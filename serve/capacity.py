"""What a cluster has and what of it serving must always have, as plain data: what Ray says is asked elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

Resources = dict[str, float]


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster, with the resources that Ray counts: ``CPU``, ``GPU``, ``memory`` in bytes, ...

    Attributes:
        total: what it has. free: what nobody has taken.
    """

    id: str
    total: Resources
    free: Resources


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the cluster has, and what serving must always have of it.

    Attributes:
        minimum: what each replica takes that Serve may never be without, one entry for each of its bundles.
        missing: those of them that are not there now: models that start, or were lost.
    """

    nodes: tuple[Node, ...]
    minimum: tuple[Resources, ...]
    missing: tuple[Resources, ...]
