"""What may go wrong with a run, each in one line."""

from __future__ import annotations

from serve.models import ModelSourceError
from serve.settings.errors import SettingsError
from train.checkpoints import CheckpointError
from train.dataset.formats import PreparedError
from train.finetune.data import DataError
from train.run_folder import StorageError
from train.worker.tunable import EngineRefused

#: What is wrong with what was asked for.
FAULTS = (SettingsError, DataError, PreparedError, ModelSourceError, StorageError, CheckpointError)
#: What workers would come to again, however often they are started.
HOPELESS = (SettingsError, DataError, PreparedError, EngineRefused)


class RunFailed(Exception):
    """The workers failed more often than the recipe lets them."""


class RayUnreachable(Exception):
    """Ray can be neither reached nor started."""


class RunTaken(Exception):
    """Another process works on the run."""


class NoRoom(Exception):
    """What the workers take is not free; the same run goes on when it is.

    Attributes:
        after_loss: workers were lost before, which counts for an interruption whatever is free.
    """

    def __init__(self, message: str, *, after_loss: bool = False) -> None:
        super().__init__(message)
        self.after_loss = after_loss


def root_of(failure: BaseException) -> BaseException:
    """What a worker raised, under what Ray wraps around it."""
    causes = getattr(failure, "worker_failures", None) or {}
    inner: BaseException = next(iter(causes.values()), failure)
    while (deeper := getattr(inner, "_base_exc", None) or inner.__cause__) is not None:
        inner = deeper
    return inner


def root_line(failure: BaseException) -> str:
    """The first line of it."""
    return first_line(root_of(failure))


def first_line(error: BaseException) -> str:
    """The first line that an error says, or else its name."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
