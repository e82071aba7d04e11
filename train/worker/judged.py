"""The loss on the validation data: a mean over all its answer tokens or pairs, however they are shared out."""

from __future__ import annotations

import math

from train.worker import group

#: DPO's loss of a pair of which the model thinks what its base does, and so of two answers that are both empty.
UNDECIDED = math.log(2)


class ValidationLoss:
    """Adds up one evaluation, batch by batch, and then over all workers."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._count = 0

    def add(self, loss: float, count: int) -> None:
        """Take a batch: its mean loss over so many tokens or pairs. One without any has no loss to speak of."""
        if count:
            self._loss += loss * count
            self._count += count

    def add_pairs(self, loss: float, pairs: int, blank: int) -> None:
        """Take a batch of pairs: its mean loss over ``pairs`` and so many blank ones, which count for nothing."""
        if pairs:
            self.add((loss * (pairs + blank) - UNDECIDED * blank) / pairs, pairs)

    def mean(self) -> float:
        """In nats, over what all workers have added; each has to ask. Not a number where that is nothing."""
        found = group.from_all((self._loss, self._count))
        count = sum(count for _, count in found)
        return math.fsum(loss for loss, _ in found) / count if count else math.nan
