"""What is said when workers of a run are lost, so that whoever shares resources out keeps theirs for them."""

from __future__ import annotations

import logging

from ray.train import UserCallback

from train.events import EventLog
from train.finetune.run import first_line
from train.run_folder import RunFolder, StorageError

logger = logging.getLogger(__name__)


class Losses(UserCallback):  # type: ignore[misc]
    """Puts a run whose workers are gone back into the state ``starting``; the first step of the next ones ends it.

    Ray Train calls it where it watches the workers from, and then waits for new ones as long as it takes.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
        """Say so."""
        rank, failure = min(worker_exceptions.items())
        try:
            EventLog(self._folder).state("starting", f"worker {rank} is lost: {first_line(failure)}")
        except StorageError as error:
            # What it is told by must not end the run.
            logger.warning("a lost worker could not be told of: %s", error)
