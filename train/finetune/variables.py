"""Environment variables by which Ray is told how to run, for as long as it is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

#: Of a node that is started for one run: it keeps no processes that have nothing to do. Each would wake a hundred
#: times a second on the processors that train. Nodes that are there do not read these.
OWN_NODE = {"RAY_num_workers_soft_limit": "0", "RAY_prestart_worker_first_driver": "0"}

#: So long Ray Train waits for what the workers take, which was free a moment before.
_PATIENCE_SECONDS = 5


def ray_train(nodes: int) -> dict[str, str]:
    """What Ray Train reads when a run starts its workers on a cluster of so many nodes."""
    found = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(_PATIENCE_SECONDS)}
    if nodes == 1:
        # A process that looks for nodes which are about to be taken away: with this one, everything goes.
        found["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    return found


@contextmanager
def where_unset(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables within the block; those that are set already stay as they are."""
    missing = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
