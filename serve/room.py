"""Whether workers find their resources on the nodes, with serving's minimum left alone. Only arithmetic."""

from __future__ import annotations

from collections.abc import Iterable

from serve.capacity import Capacity, Resources

#: Ray counts in ten-thousandths.
_STEP = 1e-4


def worker_bundles(workers: int, cpus: float, gpus: float) -> list[Resources]:
    """What so many workers take of which each takes this."""
    return [{"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})] * workers


def in_words(workers: int, cpus: float, gpus: float) -> str:
    """The same for people."""
    return f"{workers} x ({cpus:g} CPU, {gpus:g} GPU)"


def has_room(capacity: Capacity, promised: Iterable[Resources], wanted: Iterable[Resources]) -> bool:
    """Whether ``wanted`` is free now, beside what serving lacks to its minimum.

    Args:
        promised: what jobs will take that were started and have not taken it yet.
    """
    missing = list(capacity.missing)
    for bundle in _beyond(capacity):
        if bundle in missing:
            missing.remove(bundle)
    free = [dict(node.free) for node in capacity.nodes]
    return not any(_left_over(free, bundles) for bundles in (missing, promised, wanted))


def could_have_room(capacity: Capacity, wanted: Iterable[Resources]) -> bool:
    """Whether ``wanted`` fits on the nodes that there are, when nothing runs but serving at its minimum."""
    total = [dict(node.total) for node in capacity.nodes]
    _left_over(total, capacity.minimum)
    return not _left_over(total, wanted)


def beside_serving(capacity: Capacity) -> Resources:
    """What all nodes have together beside serving's minimum."""
    found: Resources = {}
    for node in capacity.nodes:
        for name in ("CPU", "GPU"):
            found[name] = found.get(name, 0.0) + node.total.get(name, 0.0)
    for sign, bundles in ((-1, capacity.minimum), (1, _beyond(capacity))):
        for bundle in bundles:
            for name in found:
                found[name] += sign * bundle.get(name, 0.0)
    return found


def _beyond(capacity: Capacity) -> list[Resources]:
    """What of serving's minimum these nodes could not hold if nothing else ran: no job can take it away."""
    return _left_over([dict(node.total) for node in capacity.nodes], capacity.minimum)


def _left_over(nodes: list[Resources], bundles: Iterable[Resources]) -> list[Resources]:
    """Take each bundle from a node that has it, the largest first; gives those that find none."""
    left = []
    for bundle in sorted(bundles, key=lambda one: (one.get("GPU", 0.0), one.get("CPU", 0.0)), reverse=True):
        node = next((one for one in nodes if _holds(one, bundle)), None)
        if node is None:
            left.append(bundle)
            continue
        for name, amount in bundle.items():
            node[name] = node.get(name, 0.0) - amount
    return left


def _holds(node: Resources, bundle: Resources) -> bool:
    return all(node.get(name, 0.0) + _STEP >= amount for name, amount in bundle.items())
