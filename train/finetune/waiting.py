"""How a run that a person has started waits for what its workers take: it asks Ray once, and looks now and then.

To look at what is free would not be enough: Ray's autoscaler adds nodes for those who have asked. What is asked for
is a placement group, as Ray Train will ask for; no process is started for it, and a look is one call.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from serve.room import in_words, worker_bundles
from train.events import EventLog
from train.finetune.faults import RayUnreachable, first_line
from train.finetune.job import Job
from train.finetune.wanted import pause_if_wanted

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

#: Between two looks, at first and at most: a wish to pause is heard as soon.
_SHORTEST_SECONDS = 0.1
_LONGEST_SECONDS = 1.0
_GROWTH = 1.5
#: So long nothing is told: what lost workers had is free only a little later.
_QUIET_SECONDS = 5.0
#: How often it is told again.
_TOLD_AGAIN_SECONDS = 600.0


def needs_of(job: Job) -> str:
    """What the run's workers take, for people."""
    resources = job.recipe.resources
    return in_words(job.recipe.workers, resources.cpus, resources.gpus)


def wait_until_free(job: Job) -> None:
    """Wait until the cluster has what the run's workers take, however long. When this returns it is free, not held.

    Raises:
        PauseWanted: somebody wants it meanwhile.
        RayUnreachable, StorageError
    """
    from ray.exceptions import RayError

    resources = job.recipe.resources
    told, pause = _Told(job), _SHORTEST_SECONDS
    try:
        with _asked(worker_bundles(job.recipe.workers, resources.cpus, resources.gpus)) as group:
            while (found := _look(group))["state"] != "CREATED":
                pause_if_wanted(job.folder)
                told.go_on(hopeless=found["stats"]["scheduling_state"] == "INFEASIBLE")
                time.sleep(pause)
                pause = min(pause * _GROWTH, _LONGEST_SECONDS)
    except RayError as error:
        raise RayUnreachable(f"what is free of the cluster cannot be seen: {first_line(error)}") from error


@contextmanager
def _asked(bundles: list[dict[str, float]]) -> Iterator[PlacementGroup]:
    """A placement group that Ray is asked for; in the end what it gave is given back, and nothing more is asked."""
    from ray.util.placement_group import placement_group, remove_placement_group

    # As Ray Train places workers: on few nodes, where they fit.
    group = placement_group(bundles, strategy="PACK")
    try:
        yield group
    finally:
        remove_placement_group(group)


def _look(group: PlacementGroup) -> dict[str, Any]:
    """What has become of the request.

    Raises:
        RayUnreachable: Ray knows nothing of it any more.
    """
    from ray.util.placement_group import placement_group_table

    found: dict[str, Any] = placement_group_table(group)
    if found.get("state") in (None, "REMOVED"):
        raise RayUnreachable("Ray no longer knows what the run has asked it for")
    return found


class _Told:
    """Says in the run's events that it waits, and for what: when that takes longer, and then every so often."""

    def __init__(self, job: Job) -> None:
        self._events = EventLog(job.folder)
        self._needs = needs_of(job)
        self._begun = time.monotonic()
        self._due = self._begun + _QUIET_SECONDS
        self._first = True

    def go_on(self, *, hopeless: bool) -> None:
        """Say it where it is time to.

        Args:
            hopeless: the nodes that there are could not hold them if nothing else ran.
        """
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _TOLD_AGAIN_SECONDS
        why = "; no nodes that there are could hold them" if hopeless else ""
        if self._first:
            self._first = False
            self._events.state("starting", f"waiting for {self._needs} to be free{why}")
        else:
            minutes = (now - self._begun) / 60
            self._events.write("message", f"still waiting for {self._needs}, for {minutes:.0f} minutes now{why}")
