"""Starts and stops the one Ray node that a laptop's group runs on.

The node runs under one `ray start --block` process, which takes all of its children with it when it ends; so a stop
reaches what was started here and no other Ray on the machine.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from serve.launch.errors import LaunchError
from serve.launch.progress import waiting
from serve.launch.run_folder import DASHBOARD_PORT, RAY_PORT, RunFolder, Running

START_SECONDS = 120
STOP_SECONDS = 60


def start(folder: RunFolder, http_port: int) -> None:
    """Start Ray on loopback, with token authentication, and wait until its dashboard answers.

    Raises:
        LaunchError: a port is taken, or Ray did not start; names its log.
    """
    for port, what in ((RAY_PORT, "Ray"), (DASHBOARD_PORT, "Ray's dashboard"), (http_port, "the group")):
        if port_open(port):
            raise LaunchError(f"port {port}, which {what} needs, is taken by another process; stop it and try again")
    command = [
        program("ray"),
        "start",
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={RAY_PORT}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={DASHBOARD_PORT}",
        "--disable-usage-stats",
    ]
    environment = folder.process_environment()
    # `ray start` must not take the address for that of a cluster to join.
    environment.pop("RAY_ADDRESS")
    with folder.ray_log.open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    folder.remember(Running(process.pid, http_port))
    with waiting("starting Ray") as tick:
        deadline = time.monotonic() + START_SECONDS
        while not port_open(DASHBOARD_PORT):
            if process.poll() is not None or time.monotonic() > deadline:
                stop(folder, Running(process.pid, http_port))
                raise LaunchError(f"Ray did not start; its output is in {folder.ray_log}")
            tick()
            time.sleep(0.25)


def stop(folder: RunFolder, running: Running) -> None:
    """End the Ray node and everything under it."""
    with waiting("stopping Ray") as tick:
        try:
            parent = psutil.Process(running.pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            folder.forget()
            return
        parent.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while (alive := [one for one in family if _alive(one)]) and time.monotonic() < deadline:
            tick()
            time.sleep(0.25)
            if not _alive(parent):
                for one in alive:
                    _signal(one, signal.SIGTERM)
        for one in family:
            if _alive(one):
                _signal(one, signal.SIGKILL)
    folder.forget()


def port_open(port: int) -> bool:
    """Whether something listens on this loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str) -> str:
    """The path of a program of this virtual environment."""
    return str(Path(sys.executable).parent / name)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: int) -> None:
    # One that has ended by itself meanwhile is what was wanted.
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
