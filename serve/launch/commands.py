"""The commands that start and stop a group on this machine."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType

from filelock import FileLock, Timeout

from serve.launch import group
from serve.launch.errors import LaunchError
from serve.launch.progress import say
from serve.launch.run_folder import DASHBOARD_PORT, RunFolder
from serve.models import ModelSourceError
from serve.settings.config import GroupConfig, load
from serve.settings.environment import Environment
from serve.settings.errors import SettingsError


def run(options: argparse.Namespace) -> int:
    """Start or stop the group; 0 when it worked, 1 with one line on standard error when not."""
    try:
        folder = RunFolder(Environment.read())
        with FileLock(folder.lock, timeout=0):
            if options.command == "down":
                return _down(folder)
            load(options.config)
            _show(group.start(folder, options.config, options.port), folder)
    except Timeout:
        sys.stderr.write("error: another start or stop of this group is running\n")
        return 1
    except (LaunchError, SettingsError, ModelSourceError, OSError) as error:
        sys.stderr.write("".join(f"error: {line}\n" for line in str(error).splitlines()))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped by Ctrl-C; scripts/stop.sh ends what has been started\n")
        return 130
    return _stay(folder) if options.foreground else 0


def _down(folder: RunFolder) -> int:
    running = folder.read()
    if running is None:
        say("nothing runs")
        return 0
    group.stop(folder, running)
    return 0


def _stay(folder: RunFolder) -> int:
    """Wait for a signal or for Ray's end, then stop the group."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    say("running; Ctrl-C stops the group")
    while not asked and folder.read() is not None:
        time.sleep(0.5)
    with FileLock(folder.lock):
        running = folder.read()
        if running is None:
            sys.stderr.write(f"error: Ray has ended by itself; its output is in {folder.ray_log}\n")
            return 1
        group.stop(folder, running)
    return 0


def _show(started: GroupConfig, folder: RunFolder) -> None:
    base = f"http://127.0.0.1:{started.file.http_options.port}"
    ids = ", ".join(model.id for model in started.models)
    say(f"""
The group is ready: {ids}

  API            {base}/v1
  reference      {base}/docs
  Ray dashboard  http://127.0.0.1:{DASHBOARD_PORT}   (token: {folder.path / "ray_token"})

Try it:

  curl -s {base}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is the capital of Japan?"}}]}}'

For `serve deploy`, `serve status` and `ray job submit` in a shell of your own:

  source {folder.env_file}

Stop everything: scripts/stop.sh""")
