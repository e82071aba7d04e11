"""Fine-tuning runs as Ray jobs: submitted, looked at, paused and stopped. Every call blocks.

The only part of ``train`` that the gateway imports, so nothing heavy may come with it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from train.checkpoints import Checkpoints
from train.events import Event, read_events
from train.run_folder import CONTROL, DATA, NO_ROOM, RESULT, TRY_AGAIN, Json, RunFolder, StorageError

#: The entry of a run.
MODULE = "train.finetune"
#: What a job adds to the folder of its run: its recipe, copies of its files, what each attempt printed.
RECIPE = "job.yaml"
FILES = "files"
LOGS = "logs"
#: How much of what an attempt printed is kept: its end.
KEPT_LOG = 1024 * 1024
#: What Ray's client raises for whatever goes wrong on the way.
_FAULTS = (RuntimeError, ConnectionError, AuthenticationError, requests.RequestException)
#: How long an attempt waits for the one before: the lock of a node that is lost lives on a shared folder for a while.
WAIT_SECONDS = 300

__all__ = [
    "FILES",
    "NO_ROOM",
    "RECIPE",
    "RESULT",
    "TRY_AGAIN",
    "Checkpoints",
    "Event",
    "Json",
    "JobsUnreachable",
    "Look",
    "RayJobs",
    "RunFolder",
    "StorageError",
    "clear",
    "command_of",
    "kept_log",
    "keep_log",
    "pause",
    "read_events",
]


class JobsUnreachable(Exception):
    """Ray's Job API does not answer, or not as it should; worth trying again."""


@dataclass(frozen=True, slots=True)
class Look:
    """A job as Ray sees it.

    Attributes:
        status: Ray's own word, in small letters.
        message: what Ray says to it.
        exit_code: of its program; none while it runs, or where nobody knows.
    """

    status: Literal["pending", "running", "stopped", "succeeded", "failed"]
    message: str = ""
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it has come to its end, whichever."""
        return self.status not in ("pending", "running")


class RayJobs:
    """Ray's Job API at the dashboard of a cluster.

    Args:
        address: such as ``http://127.0.0.1:8265``.
        cluster: where programs reach the cluster. Ray itself would tell them of the one that was started last on the
            machine.
    """

    def __init__(self, address: str, cluster: str) -> None:
        self._address = address
        self._cluster = cluster
        self._made: JobSubmissionClient | None = None

    def submit(self, name: str, command: Sequence[str]) -> None:
        """Start a program as the job ``name``; nothing happens where there is a job of that name.

        Raises:
            JobsUnreachable: it is not known to have been started.
        """
        if self.look(name) is not None:
            return
        # The packages may lie beside the gateway and not be installed.
        folder = str(Path(__file__).resolve().parents[1])
        try:
            self._client().submit_job(
                entrypoint=shlex.join(["env", f"RAY_ADDRESS={self._cluster}", *command]),
                submission_id=name,
                runtime_env={"env_vars": {"PYTHONPATH": folder}},
            )
        except (ValueError, *_FAULTS) as error:
            if self.look(name) is None:
                raise _unreachable(error) from error

    def look(self, name: str) -> Look | None:
        """What Ray knows of a job; none where it knows nothing, which is so of all jobs of a cluster that is gone.

        Raises:
            JobsUnreachable
        """
        try:
            found = self._client().get_job_info(name)
        except _FAULTS as error:
            if "status code 404" in str(error):
                return None
            raise _unreachable(error) from error
        return Look(found.status.value.lower(), found.message or "", found.driver_exit_code)

    def stop(self, name: str) -> None:
        """Ask a job to end; Ray ends it by force a few seconds later.

        Raises:
            JobsUnreachable
        """
        try:
            self._client().stop_job(name)
        except _FAULTS as error:
            if "status code 404" not in str(error):
                raise _unreachable(error) from error

    def log(self, name: str) -> str:
        """What a job has printed so far; empty where Ray does not have it.

        Raises:
            JobsUnreachable
        """
        try:
            return str(self._client().get_job_logs(name))
        except _FAULTS as error:
            if "status code 404" in str(error):
                return ""
            raise _unreachable(error) from error

    def _client(self) -> JobSubmissionClient:
        """Made at the first use: it asks the cluster for its version."""
        if self._made is None:
            try:
                self._made = JobSubmissionClient(self._address)
            except _FAULTS as error:
                raise _unreachable(error) from error
        return self._made


def command_of(run: RunFolder) -> list[str]:
    """The program of a run: the same whether it begins or goes on."""
    recipe = f"{run.address}/{RECIPE}"
    place = ["--run", run.name, "--storage", run.storage]
    how = ["--wait", str(WAIT_SECONDS), "--spare-serving"]
    return [sys.executable, "-m", MODULE, "--config", recipe, *place, *how]


def pause(run: RunFolder) -> None:
    """Ask a run to save itself and end.

    Raises:
        StorageError
    """
    run.write_json(CONTROL, {"wanted": "pause"})


def clear(run: RunFolder, *, whole: bool) -> None:
    """Remove the copies that a run was made from and will not need again.

    Args:
        whole: remove all of the run.

    Raises:
        StorageError
    """
    for part in ("",) if whole else (FILES, DATA):
        run.remove(part)


def keep_log(run: RunFolder, attempt: int, text: str) -> None:
    """Keep what an attempt printed, since Ray forgets it when its cluster ends.

    Raises:
        StorageError
    """
    run.write(f"{LOGS}/{attempt}.txt", text.encode(errors="replace")[-KEPT_LOG:])


def kept_log(run: RunFolder, attempt: int) -> str | None:
    """What an attempt printed; none where nothing was kept.

    Raises:
        StorageError
    """
    content = run.read(f"{LOGS}/{attempt}.txt")
    return None if content is None else content.decode(errors="replace")


def _unreachable(error: Exception) -> JobsUnreachable:
    return JobsUnreachable(next(iter(str(error).splitlines()), type(error).__name__))
