"""Processes that end with the one that started them, however it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from serve.handlers.vllm import reaper
from serve.handlers.vllm.reaper import Reaper

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]

#: Starts a process that knows nothing of its parent, has it watched, and waits to be killed.
REPLICA = f"""
import subprocess, sys, time
import psutil
sys.path.insert(0, {str(Path(reaper.__file__).parents[3])!r})
from serve.handlers.vllm.reaper import Reaper
child = subprocess.Popen({SLEEP!r}, start_new_session=True)
kept = Reaper([psutil.Process(child.pid)])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_started_ends_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", REPLICA], stdout=subprocess.PIPE, text=True) as replica:
        assert replica.stdout is not None
        child = psutil.Process(int(replica.stdout.readline()))
        replica.kill()
        child.wait(10)


def test_closing_ends_what_still_runs() -> None:
    with subprocess.Popen(SLEEP) as child:
        watching = Reaper([psutil.Process(child.pid)])
        assert child.poll() is None
        watching.close()
        assert child.wait(10) != 0


def test_what_has_ended_already_is_no_fault() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        process = psutil.Process(child.pid)
        child.wait()
        watching = Reaper([process])
        watching.close()
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(child.pid)
