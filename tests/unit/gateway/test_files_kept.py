"""Files on the disk: uploads at once, clients that leave, disks that fill, what killed gateways leave behind."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from filelock import FileLock

from serve.errors import Unavailable
from serve.gateway import verdict
from serve.gateway.keeper import Keeper
from serve.store import FileRoom, StoredFile
from serve.store.contents import Change, Contents
from serve.store.records import utc_now
from tests.unit.gateway.group import Group, group, listening, settled
from tests.unit.gateway.uploads import (
    FORM,
    LIMITS,
    TRAINING,
    Held,
    call,
    folder,
    kept,
    key,
    part,
    refused,
    upload,
)
from tests.unit.replica.models import echo

ROOT = Path(__file__).parents[3]


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Group]:
    """A gateway with small limits."""
    async with group(tmp_path, echo(), files=LIMITS) as found:
        yield found


async def test_uploads_at_once_have_a_limit_for_each_caller(one: Group) -> None:
    held = [Held(one), Held(one)]
    await settled(lambda: one.files._under_way["local"] == 2)
    answer = await upload(one)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_uploads")
    assert "retry-after" in answer.headers
    assert (await upload(one, headers=await key(one))).status_code == 200
    for waiting in held:
        waiting.go.set()
        assert (await waiting.task).status_code == 200
    assert not one.files._under_way
    assert (await upload(one)).status_code == 200


async def test_many_uploads_at_once_get_what_each_sent(one: Group) -> None:
    one.configure(files={"uploads": 20})
    contents = [bytes([number]) * (number * 1000 + 1) for number in range(12)]
    answers = await asyncio.gather(*(upload(one, content) for content in contents))
    for answer, content in zip(answers, contents, strict=True):
        assert (await call(one, "GET", f"/{answer.json()['id']}/content")).content == content


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(one: Group) -> None:
    one.configure(files={"file_bytes": 10_000_000})
    head = part("file", b"x" * 3_000_000, "a.bin")
    async with listening(one.app) as address:
        host, port = address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        lines = ["POST /v1/files HTTP/1.1", "host: localhost", f"content-type: {FORM['content-type']}"]
        writer.write("\r\n".join([*lines, "content-length: 9000000", "", ""]).encode() + head)
        await settled(lambda: any(name.endswith(".part") for name in kept(one)))
        writer.close()
        await settled(lambda: not one.files._under_way)
        await settled(lambda: kept(one) == [])
    assert (await call(one, "GET")).json()["data"] == []


async def test_a_client_that_leaves_during_the_validation_ends_its_process(one: Group) -> None:
    one.configure(files={"file_bytes": 50_000_000})
    children = psutil.Process().children
    known = {child.pid for child in children()}
    asking = asyncio.create_task(upload(one, TRAINING * 200_000, "fine-tune"))
    await settled(lambda: {child.pid for child in children()} - known)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await settled(lambda: not {child.pid for child in children()} - known)
    await settled(lambda: kept(one) == [])


async def test_a_validation_that_fails_is_an_error_of_the_server_and_leaves_nothing(
    one: Group, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(verdict, "MODULE", "train.dataset.no_such_module")
    await refused(one, await upload(one, TRAINING, "fine-tune"), 500, "internal_error")
    [record] = [record for record in caplog.records if record.message == "a validation failed"]
    assert "no_such_module" in record.__dict__["reason"]


async def test_a_validation_is_told_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shows_environment.py").write_text("import json, os; print(json.dumps(dict(os.environ)))")
    monkeypatch.setattr(verdict, "MODULE", "shows_environment")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GROUPQWEN_INTERNAL_TOKEN", "marmalade")
    assert "marmalade" not in str(await verdict.Verdicts().of(tmp_path))


async def test_a_full_disk_is_said_and_leaves_nothing(one: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(descriptor: int, data: Any) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".part"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    answer = await upload(one, b"x" * 5000)
    await refused(one, answer, 507, "storage_full", "file")
    monkeypatch.undo()
    assert (await upload(one)).status_code == 200


async def test_a_folder_that_cannot_be_made_is_an_error_without_details(one: Group) -> None:
    folder(one).write_bytes(b"")
    answer = await upload(one)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert str(folder(one)) not in answer.text


async def test_a_content_that_this_replica_cannot_see_is_unavailable(one: Group) -> None:
    id = (await upload(one)).json()["id"]
    (folder(one) / id).unlink()
    answer = await call(one, "GET", f"/{id}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "content_missing")
    assert (await call(one, "DELETE", f"/{id}")).status_code == 200


async def test_a_database_that_does_not_answer_at_the_end_leaves_the_verdict_to_the_sweep(
    one: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = one.store.files.add

    async def stored_and_lost(file: StoredFile, room: FileRoom) -> None:
        await add(file, room)
        raise Unavailable("gone")

    async def lost(file: StoredFile, room: FileRoom) -> None:
        raise Unavailable("gone")

    for broken in (stored_and_lost, lost):
        monkeypatch.setattr(one.store.files, "add", broken)
        assert (await upload(one, b"content")).status_code == 503
    await one.keeper.sweep()
    (listed,) = (await call(one, "GET")).json()["data"]
    assert kept(one) == [listed["id"]]
    assert (await call(one, "GET", f"/{listed['id']}/content")).content == b"content"


async def test_the_sweep_removes_what_a_killed_gateway_left_and_nothing_else(one: Group) -> None:
    id = (await upload(one)).json()["id"]
    (folder(one) / f"{id}.lock").touch()  # Killed after the row was written.
    (folder(one) / "file-a.lock").touch()  # Killed before any content.
    for name in ("file-b.lock", "file-b.part", "file-c.lock", "file-c", "notes.txt", ".lock"):
        (folder(one) / name).write_bytes(b"x")  # Killed while it came; killed before the row.
    await one.keeper.sweep()
    assert kept(one) == sorted([id, "notes.txt", ".lock"])


async def test_what_a_killed_process_was_writing_is_swept(one: Group) -> None:
    code = (
        "import os, pathlib, sys; from serve.store.contents import Contents;"
        "Contents(pathlib.Path(sys.argv[1])).change('file-a').write(b'x'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder(one))], check=False, cwd=ROOT)
    assert done.returncode == -9
    assert kept(one) == ["file-a.lock", "file-a.part"]
    await one.keeper.sweep()
    assert kept(one) == []


async def test_the_sweep_leaves_alone_what_another_replica_is_at(one: Group) -> None:
    other = Contents(folder(one)).change("file-a")
    other.write(b"x")
    await one.keeper.sweep()
    assert kept(one) == ["file-a.lock", "file-a.part"]
    other.end()
    assert kept(one) == []


async def test_a_file_that_has_expired_is_swept(one: Group) -> None:
    expiring = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = (await upload(one, data=expiring)).json()
    assert made["expires_at"] == made["created_at"] + 3600
    lasting = (await upload(one)).json()["id"]
    change = Contents(folder(one)).change("file-old")
    change.write(b"x")
    change.keep()
    change.end()
    now = utc_now()
    old = StoredFile("file-old", "local", now, "a", "user_data", 1, "00", expires_at=now)
    await one.store.files.add(old, FileRoom(100, 10**9))
    assert (await call(one, "GET", "/file-old/content")).status_code == 404
    await one.keeper.sweep()
    assert kept(one) == sorted([made["id"], lasting])


async def test_a_running_gateway_sweeps_when_it_starts(one: Group) -> None:
    folder(one).mkdir()
    (folder(one) / "file-a.lock").touch()
    one.keeper.start()
    await settled(lambda: kept(one) == [])


async def test_two_who_delete_one_file_do_not_get_in_each_others_way(one: Group) -> None:
    id = (await upload(one)).json()["id"]
    with FileLock(f"{folder(one) / id}.lock"):
        answer = await call(one, "DELETE", f"/{id}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    answers = await asyncio.gather(*(call(one, "DELETE", f"/{id}") for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 404, 409}
    assert (await call(one, "GET", f"/{id}")).status_code == 404
    assert kept(one) == []


async def test_two_replicas_share_the_files(one: Group) -> None:
    second = Keeper(one.store, Contents(folder(one)))
    id = (await upload(one, b"content")).json()["id"]
    await second.sweep()
    await second.close()
    assert (await call(one, "GET", f"/{id}/content")).content == b"content"


def test_a_change_that_has_ended_takes_no_more(tmp_path: Path) -> None:
    change: Change = Contents(tmp_path).change("file-a")
    change.write(b"x")
    change.end()
    change.end()
    with pytest.raises(ValueError, match="ended"):
        change.write(b"y")
    assert os.listdir(tmp_path) == []
