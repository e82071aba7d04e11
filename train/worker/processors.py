"""How a process that trains uses its node's processors."""

from __future__ import annotations

import os

from train.finetune.recipe import Resources


def use_processors(resources: Resources) -> None:
    """Compute with the recipe's threads, and let what is less nice go first: models serve on the same node.

    Niceness is only ever raised, for good: it is that of the whole process.
    """
    import torch

    torch.set_num_threads(resources.compute_threads)
    os.nice(max(0, resources.niceness - os.nice(0)))
