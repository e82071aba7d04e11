"""What the workers of a job take, and which nodes have memory for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

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


def lacks_memory(
    capacity: Capacity, members: Iterable[Member], job: FineTuningJob, beside: Collection[FineTuningJob] = ()
) -> str | None:
    """What to tell where the nodes have no memory for a job's workers now; none where they do, or nobody knows.

    Args:
        beside: jobs whose programs run or are about to.
    """
    plan = job.plan or {}
    if not _counted(plan):
        return None
    places = memory_places(capacity, members, beside, plan["bytes"])
    if places >= plan["workers"]:
        return None
    return (
        f"A worker of this job takes some {plan['bytes'] / 2**30:.1f} GiB of memory; beside the models"
        f"{' and the jobs that run' if beside else ''}, the nodes have room for {places} of its {plan['workers']}"
        " workers."
    )


def memory_places(capacity: Capacity, members: Iterable[Member], jobs: Iterable[FineTuningJob], bytes: int) -> int:
    """How many workers of ``bytes`` the nodes have memory for, beside the models that they hold, and jobs.

    Ray's ``memory`` is what a node had free when it began: nothing of what runs now is missing from it. So models and
    workers are taken from it with all that they are estimated to hold, however much of it they hold yet.

    A model with replicas on several nodes is shared out evenly, since its replicas are alike. Workers that have not
    said yet where they are count on the nodes that have the most left.
    """
    left = {node.id: node.total.get("memory", 0.0) for node in capacity.nodes}
    for member in members:
        need = sum(report.need for report in member.reports if report.state not in ("resting", "waiting"))
        for node in left.keys() & member.application.nodes:
            left[node] -= need / len(member.application.nodes)
    for job in jobs:
        plan = job.plan or {}
        if not left or not _counted(plan):
            continue
        nodes = job.progress.get("nodes") or [None] * plan["workers"]
        for node in nodes:
            left[node if node in left else max(left, key=left.__getitem__)] -= plan["bytes"]
    return sum(max(0, int(one // bytes)) for one in left.values())


def _counted(plan: Mapping[str, Any]) -> bool:
    """Whether it is known what a job's workers take of their nodes' memory; of GPUs, Ray does not tell any."""
    return plan.get("bytes") is not None and not plan["gpus"]
