"""Work that is spread over processes: done here, or in Ray's tasks, with the same results.

A unit of work is small (a name of a shard, a range of a file): what it stands for lies on a file system that every
worker sees, and what comes back is small too, so the memory of this process does not grow with the input.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

_ROOT = Path(__file__).resolve().parents[2]

U = TypeVar("U")
R = TypeVar("R")
U_contra = TypeVar("U_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Task(Protocol[U_contra, R_co]):
    """What is done with each unit; can be pickled, and makes what is heavy when it is first needed."""

    def __call__(self, unit: U_contra, /) -> R_co:
        """The result of one unit. It depends on the unit only, and doing it twice does no harm."""


class WorkersFailed(Exception):
    """Ray could not do the work; the message is one line."""


@contextmanager
def ray_for(workers: int) -> Iterator[None]:
    """Ray for ``each``: none for no workers, the one that runs, that of ``RAY_ADDRESS``, or one of its own.

    One of its own ends with the context. Its nodes meet on loopback, and Ray's token authentication guards it, since
    some of Ray's ports listen on every interface all the same.
    """
    if not workers:
        yield
        return
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    if ray.is_initialized():
        yield
        return
    # Where the project is not installed, workers find it as this process does.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    address = os.environ.get("RAY_ADDRESS") or "local"
    own = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **(own if address == "local" else {}))
    try:
        yield
    finally:
        ray.shutdown()


def each(task: Task[U, R], units: Iterable[U], workers: int) -> Iterator[R]:
    """Do ``task`` for each unit; results come in the order of the units.

    Args:
        task: what is done.
        units: what it is done with; each is asked for when somebody is free for it.
        workers: 0 does it in this process; more in so many of Ray's tasks at once, of one processor each. Ray runs
            already then.

    Raises:
        WorkersFailed: a worker or its node is lost again and again, or Ray cannot start one.
        Exception: what ``task`` raised; units behind that one may have been done.
    """
    if not workers:
        yield from map(task, units)
        return
    import ray

    packed = ray.put(pickle.dumps(task))
    remote = ray.remote(num_cpus=1)(_do)
    waiting = enumerate(units)
    running: dict[Any, int] = {}
    done: dict[int, R] = {}
    following = 0
    try:
        while True:
            while len(running) < workers and (one := next(waiting, None)) is not None:
                running[remote.remote(packed, one[1])] = one[0]
            if not running:
                return
            [ready], _ = ray.wait(list(running), num_returns=1)
            done[running.pop(ready)] = _result(ready)
            while following in done:
                yield done.pop(following)
                following += 1
    finally:
        for reference in running:
            ray.cancel(reference)


def _do(packed: bytes, unit: Any) -> Any:  # noqa: ANN401
    # One processor is what a task is promised; rensa and tokenizers would start a thread for each that there is.
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    return _unpacked(packed)(unit)


@lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> Task[Any, Any]:
    """The task, once in each process for all its units: it may have loaded a model meanwhile."""
    task: Task[Any, Any] = pickle.loads(packed)  # noqa: S301 - what ``each`` pickled
    return task


def _result(reference: Any) -> Any:  # noqa: ANN401
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise WorkersFailed(f"a Ray worker failed ({type(error).__name__}); Ray's logs say more") from error
