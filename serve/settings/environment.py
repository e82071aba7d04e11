"""The one place that reads environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serve.settings.errors import SettingsError

#: What Ray and Serve must find in the environment of every process, before `ray start`, for the fast path:
#: HAProxy in front, replicas on their own event loop, no per-request HAProxy metrics. Measured in
#: docs/benchmarks.md. The hard stop outlasts the longest stream that a proxy reload may cut; the draining period
#: outlasts the time in which a proxy learns that a replica leaves.
SERVE_FLAGS: dict[str, str] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "900",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
    # Ray runs its workers at niceness 15, where every other process on the machine is served first.
    "RAY_worker_niceness": "0",
    # What a group costs that nobody asks. Each replica and each handle counts for the dashboard ten times a second,
    # whose numbers are collected every ten seconds; and whether there are new logs is asked as often where they are
    # fewer than this, else twice a second.
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "2000",
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
}

#: Units of a size, without their last letter.
_UNITS = {"": 1} | {
    letter + binary: (1024 if binary else 1000) ** power
    for power, letter in enumerate("KMGT", start=1)
    for binary in ("", "I")
}


@dataclass(frozen=True)
class Environment:
    """What the environment says.

    Attributes:
        home: folder of everything that GroupQwen keeps on this node (``GROUPQWEN_HOME``).
        models_dir: where weights lie (``GROUPQWEN_MODELS_DIR``).
        adapters_dir: the adapter registry, a folder that every node sees (``GROUPQWEN_ADAPTERS_DIR``).
        files_dir: contents of uploaded files, a folder that every gateway sees (``GROUPQWEN_FILES_DIR``).
        runs: where folders of training runs lie, a folder that every node sees or an address of an object store
            (``GROUPQWEN_RUNS``).
        database_url: the store (``GROUPQWEN_DATABASE_URL``); a SQLite file in ``home`` by default.
        internal_token: what the gateway shows to model replicas (``GROUPQWEN_INTERNAL_TOKEN``); empty when unset.
        hub_endpoint: the model hub's address (``HF_ENDPOINT``).
        hub_token: its token (``HF_TOKEN``); none when unset.
        haproxy: whether Ray Serve runs HAProxy in front of the replicas.
        memory_limit: bytes that models may hold on this node (``GROUPQWEN_MEMORY_LIMIT``); none when unset.
    """

    home: Path
    models_dir: Path
    adapters_dir: Path
    files_dir: Path
    runs: str
    database_url: str = field(repr=False)
    internal_token: str = field(repr=False)
    hub_endpoint: str
    hub_token: str | None = field(repr=False)
    haproxy: bool
    memory_limit: int | None

    @staticmethod
    def read(source: Mapping[str, str] | None = None) -> Environment:
        """Read ``source`` (the process's environment by default).

        Raises:
            SettingsError: a value cannot be used; names the variable.
        """
        env = os.environ if source is None else source
        home = Path(env.get("GROUPQWEN_HOME") or Path.home() / ".groupqwen").expanduser()
        if not home.is_absolute():
            raise SettingsError(f"GROUPQWEN_HOME must be an absolute path, not {str(home)!r}")
        models = Path(env.get("GROUPQWEN_MODELS_DIR") or home / "models").expanduser()
        endpoint = env.get("HF_ENDPOINT") or "https://huggingface.co"
        if not endpoint.startswith(("http://", "https://")):
            raise SettingsError("HF_ENDPOINT must be an http or https address")
        return Environment(
            home=home,
            models_dir=models,
            adapters_dir=Path(env.get("GROUPQWEN_ADAPTERS_DIR") or home / "adapters").expanduser(),
            files_dir=Path(env.get("GROUPQWEN_FILES_DIR") or home / "files").expanduser(),
            runs=env.get("GROUPQWEN_RUNS") or str(home / "runs"),
            database_url=env.get("GROUPQWEN_DATABASE_URL") or f"sqlite:///{home / 'groupqwen.db'}",
            internal_token=env.get("GROUPQWEN_INTERNAL_TOKEN", ""),
            hub_endpoint=endpoint.rstrip("/"),
            hub_token=env.get("HF_TOKEN") or None,
            haproxy=env.get("RAY_SERVE_ENABLE_HA_PROXY") == "1",
            memory_limit=_size("GROUPQWEN_MEMORY_LIMIT", env.get("GROUPQWEN_MEMORY_LIMIT")),
        )

    @staticmethod
    def as_launched() -> Environment:
        """What Ray's processes will find when ``scripts/start.sh`` starts them from this environment."""
        return Environment.read({**SERVE_FLAGS, **os.environ})

    def require_internal_token(self) -> str:
        """The internal token.

        Raises:
            SettingsError: it is not set; says how to set it.
        """
        if not self.internal_token:
            raise SettingsError(
                "GROUPQWEN_INTERNAL_TOKEN is not set where Ray runs; start Ray with scripts/start.sh, or set it"
                " to one secret on every node before `ray start`"
            )
        return self.internal_token


def read_secret(name: str) -> str:
    """The secret in the variable that a config names.

    Raises:
        SettingsError: it is not set where this process runs, or empty.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        raise SettingsError(
            f"the environment variable {name} is not set where Ray runs; export it before scripts/start.sh, or before"
            " `ray start` on every node"
        )
    return value


def _size(name: str, text: str | None) -> int | None:
    """``text`` in bytes: a number, with or without a unit."""
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|[KMGT]i?B?|B)", text.strip(), re.IGNORECASE)
    size = 0 if found is None else round(float(found[1]) * _UNITS[found[2].upper().removesuffix("B")])
    if not size:
        raise SettingsError(f"{name} must be a size such as 16GiB, 16GB or 17179869184, not {text!r}")
    return size
