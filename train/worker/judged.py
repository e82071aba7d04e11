"""The loss on the validation data: a mean over all its answer tokens, however they are shared out."""

from __future__ import annotations

import math

from train.worker import group


class AnswerLoss:
    """Adds up one evaluation, batch by batch, and then over all workers."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._answers = 0

    def add(self, loss: float, answers: int) -> None:
        """Take a batch: its mean loss over so many answer tokens. One without any has no loss to speak of."""
        if answers:
            self._loss += loss * answers
            self._answers += answers

    def mean(self) -> float:
        """In nats a token, over what all workers have added; each has to ask. Not a number where that is nothing."""
        found = group.from_all((self._loss, self._answers))
        answers = sum(count for _, count in found)
        return math.fsum(loss for loss, _ in found) / answers if answers else math.nan
