"""One measured piece of work on rows, in a process of its own: ``python -m benchmarks.curate_work``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks.curate_steps import STEPS, warm_up
from train.dataset.parallel import each


def main() -> int:
    """Do one step; writes the seconds that it took, without Ray's start, to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("shards", type=Path, nargs="+")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    # Ray's workers step back for whatever else runs (niceness 15); the rivals do not.
    os.environ.update({"RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"})
    import ray

    ray.init(
        address="local",
        num_cpus=options.workers,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=256 << 20,
    )
    # Every worker has started and imported what it needs before the clock does.
    list(each(warm_up, range(4 * options.workers), options.workers))
    began = time.perf_counter()
    STEPS[options.step](options.shards, options.out, options.workers)
    seconds = time.perf_counter() - began
    ray.shutdown()
    sys.stdout.write(f"{seconds}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
