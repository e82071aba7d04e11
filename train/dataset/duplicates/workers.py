"""Who does the work: this process alone, or Ray's workers. The results are the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Parallelism(Protocol):
    """Applies functions to things, maybe several at once."""

    def map(self, function: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
        """The results, in the order of ``things``. An error of one is raised; those behind it may have run."""


class Here:
    """Does everything in this process, one after another."""

    def map(self, function: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
        """The results, in order."""
        return map(function, things)


class RayTasks:
    """Does it in Ray tasks of one processor each; Ray must be initialized, and every node see the files.

    Args:
        workers: how many run at once, at most.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(self, function: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
        """The results, in order."""
        import ray

        # A task runs once: it writes files, and what fails for one reason fails again.
        remote = ray.remote(num_cpus=1, max_retries=0)(_alone)
        waiting = enumerate(things)
        running: dict[Any, int] = {}
        done: dict[int, R] = {}
        following = 0
        try:
            while True:
                while len(running) < self._workers and (one := next(waiting, None)) is not None:
                    running[remote.remote(function, one[1])] = one[0]
                if not running:
                    break
                [ready], _ = ray.wait(list(running), num_returns=1)
                done[running.pop(ready)] = _result(ready)
                while following in done:
                    yield done.pop(following)
                    following += 1
        finally:
            for reference in running:
                ray.cancel(reference)


def _alone(function: Callable[[T], R], thing: T) -> R:
    # A task is promised one processor; rensa would start a thread for each that there is. Read when it first works.
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    return function(thing)


def _result(reference: Any) -> Any:  # noqa: ANN401
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from None
