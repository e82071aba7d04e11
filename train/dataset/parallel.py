"""Work that is spread over processes: here, or by Ray Data over actors, with the same results.

A unit of work is small (a name of a shard, a range of a file): what it stands for lies on a file system that every
worker sees, and what comes back is small too, so the memory of this process does not grow with the input.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    # Ray Data's actor pools make Ray's core print a warning about themselves as an error.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
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
    """Do ``task`` for each unit; results come in the order in which they are done.

    Args:
        task: what is done.
        units: what it is done with.
        workers: 0 does it in this process; more spread it over so many Ray actors. Ray runs already then.

    Raises:
        WorkersFailed: a worker or its node is lost, or Ray cannot start one.
        Exception: what ``task`` raised.
    """
    if not workers:
        yield from map(task, units)
        return
    import ray.data
    from ray.exceptions import RayError

    packed = [{"unit": pickle.dumps(unit)} for unit in units]
    if not packed:
        return
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # A block for each unit: the next free actor takes the next unit, however long the others take.
    spread = ray.data.from_items(packed, override_num_blocks=len(packed)).map(
        _Worker,
        fn_constructor_args=(task,),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(packed)), max_tasks_in_flight_per_actor=2),
        num_cpus=1,
    )
    try:
        for found in spread.iter_rows():
            if found["error"]:
                raise pickle.loads(found["error"])  # noqa: S301 - what our own worker pickled
            yield pickle.loads(found["result"])  # noqa: S301
    except RayError as error:
        raise WorkersFailed(f"a Ray worker failed ({type(error).__name__}); Ray's logs say more") from error


class _Worker:
    """One actor with the task."""

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task

    def __call__(self, item: dict[str, bytes]) -> dict[str, bytes]:
        unit = pickle.loads(item["unit"])  # noqa: S301 - what ``each`` pickled
        try:
            return {"result": pickle.dumps(self._task(unit)), "error": b""}
        except Exception as error:  # noqa: BLE001 - raised again where the results are read
            return {"result": b"", "error": pickle.dumps(error)}
