"""What the workers of a job take, and which nodes have memory for them."""

from __future__ import annotations

from collections.abc import Iterable

from serve.capacity import Capacity, Resources
from serve.gateway.members import Member
from serve.room import in_words, worker_bundles
from serve.store import FineTuningJob


def bundles_of(job: FineTuningJob) -> list[Resources]:
    """What each worker of a job that was validated takes."""
    plan = job.plan or {}
    return worker_bundles(int(plan["workers"]), plan["cpus"], plan["gpus"])


def needs_of(job: FineTuningJob) -> str:
    """The same for people."""
    plan = job.plan or {}
    return in_words(plan["workers"], plan["cpus"], plan["gpus"])


def lacks_memory(capacity: Capacity, members: Iterable[Member], job: FineTuningJob) -> str | None:
    """What to tell where the nodes have no memory for a job's workers now; none where they do, or nobody knows."""
    plan = job.plan or {}
    if plan["bytes"] is None or plan["gpus"]:
        return None
    places = memory_places(capacity, members, plan["bytes"])
    if places >= plan["workers"]:
        return None
    return (
        f"A worker of this job takes some {plan['bytes'] / 2**30:.1f} GiB of memory; beside the models, the nodes"
        f" have room for {places} of its {plan['workers']} workers."
    )


def memory_places(capacity: Capacity, members: Iterable[Member], bytes: int) -> int:
    """How many workers of ``bytes`` the nodes have memory for, beside the models that they hold.

    Ray's ``memory`` is what a node had free when it began. A model with replicas on several nodes is shared out
    evenly, since its replicas are alike.
    """
    held: dict[str, float] = {}
    for member in members:
        need = sum(report.need for report in member.reports if report.state not in ("resting", "waiting"))
        for node in member.application.nodes:
            held[node] = held.get(node, 0.0) + need / len(member.application.nodes)
    left = (node.total.get("memory", 0.0) - held.get(node.id, 0.0) for node in capacity.nodes)
    return sum(max(0, int(one // bytes)) for one in left)
