"""OpenAI's Files API over HTTP."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openai
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from serve.gateway.upload import Form, shown_name
from serve.store.contents import Contents
from tests.unit.gateway.group import Group, group, listening
from tests.unit.gateway.uploads import (
    BOUNDARY,
    FORM,
    LIMITS,
    PURPOSE,
    TRAINING,
    call,
    folder,
    form,
    kept,
    key,
    part,
    pieces,
    refused,
    upload,
)
from tests.unit.replica.models import echo


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Group]:
    """A gateway with small limits."""
    async with group(tmp_path, echo(), files=LIMITS) as found:
        yield found


async def test_an_upload_gets_openais_object_and_can_be_read_back(one: Group) -> None:
    content = os.urandom(50_000) + b"\r\n--frontier\r\n" + bytes(range(256))
    before = int(time.time())
    made = (await upload(one, content, filename="b שלום 👩.bin")).json()
    assert made.pop("created_at") >= before
    assert made["id"].startswith("file-")
    assert made == {
        "id": made["id"],
        "object": "file",
        "bytes": len(content),
        "expires_at": None,
        "filename": "b שלום 👩.bin",
        "purpose": "user_data",
        "status": "processed",
        "status_details": None,
        "sha256": hashlib.sha256(content).hexdigest(),
        "validation": None,
    }
    assert kept(one) == [made["id"]]
    assert {"created_at": before, **(await call(one, "GET", f"/{made['id']}")).json()}.items() >= made.items()
    read = await call(one, "GET", f"/{made['id']}/content")
    assert read.content == content
    assert read.headers["content-type"] == "application/octet-stream"
    assert "b%20%D7%A9" in read.headers["content-disposition"]
    head = await call(one, "HEAD", f"/{made['id']}/content")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(content)))


async def test_content_and_folder_are_for_their_owner_alone(one: Group) -> None:
    id = (await upload(one)).json()["id"]
    assert folder(one).stat().st_mode & 0o077 == 0
    assert (folder(one) / id).stat().st_mode & 0o077 == 0


async def test_a_deleted_file_is_gone_with_its_content(one: Group) -> None:
    id = (await upload(one)).json()["id"]
    assert (await call(one, "DELETE", f"/{id}")).json() == {"id": id, "object": "file", "deleted": True}
    assert kept(one) == []
    for method, path in (("GET", id), ("DELETE", id), ("GET", f"{id}/content"), ("GET", "file-none")):
        assert (await call(one, method, f"/{path}")).json()["error"]["code"] == "not_found"


async def test_a_training_file_is_validated_and_counted(one: Group) -> None:
    made = (await upload(one, TRAINING * 2, "fine-tune")).json()
    assert made["status"] == "processed"
    found = made["validation"]
    assert (found["lines"], found["examples"], found["roles"]["user"]) == (2, 2, {"messages": 2, "characters": 16})
    assert found["warnings"] == {
        "total": 1,
        "listed": [{"line": 2, "field": None, "reason": "duplicate", "message": "says the same as line 1"}],
    }
    assert (await call(one, "GET", f"/{made['id']}")).json() == made


async def test_a_training_file_with_faults_is_refused_with_their_lines_and_not_kept(one: Group) -> None:
    bad = TRAINING + b'{"messages": [{"role": "usr", "content": "marmalade"}]}\n{"marmalade'
    answer = await upload(one, bad, "fine-tune")
    await refused(one, answer, 400, "invalid_training_file", "file")
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(
        "The file cannot be learned from. Errors: 2. The first, line 2, messages[0].role:"
    )
    assert [(fault["line"], fault["field"]) for fault in error["validation"]["errors"]["listed"]] == [
        (2, "messages[0].role"),
        (3, None),
    ]
    assert "marmalade" not in answer.text


async def test_the_openai_sdk_drives_it(one: Group, tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_bytes(TRAINING)
    async with (
        listening(one.app) as address,
        openai.AsyncOpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client,
    ):
        with file.open("rb") as opened:
            made = await client.files.create(file=opened, purpose="fine-tune")
        assert (made.filename, made.bytes, made.status, made.purpose) == (
            "chats.jsonl",
            len(TRAINING),
            "processed",
            "fine-tune",
        )
        expires: Any = {"anchor": "created_at", "seconds": 3600}
        other = await client.files.create(file=("b", b"b"), purpose="user_data", expires_after=expires)
        assert other.expires_at == other.created_at + 3600
        assert [file.id async for file in client.files.list(limit=1)] == [other.id, made.id]
        assert [file.id async for file in client.files.list(purpose="fine-tune")] == [made.id]
        assert (await client.files.retrieve(made.id)).id == made.id
        assert (await client.files.wait_for_processing(made.id)).status == "processed"
        assert (await client.files.content(made.id)).content == TRAINING
        assert (await client.files.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(made.id)
        with pytest.raises(openai.BadRequestError) as raised:
            await client.files.create(file=("c.jsonl", b"{"), purpose="fine-tune")
        body: Any = raised.value.body
        assert body["validation"]["errors"]["listed"][0]["line"] == 1


async def test_lists_have_pages_an_order_and_a_purpose(one: Group) -> None:
    made = [(await upload(one, purpose="user_data")).json()["id"] for _ in range(4)]
    made.append((await upload(one, TRAINING, "fine-tune")).json()["id"])
    seen: list[str] = []
    page: Any = {"has_more": True}
    while page["has_more"]:
        after = f"&after={seen[-1]}" if seen else ""
        page = (await call(one, "GET", f"?limit=2&order=asc{after}")).json()
        assert page["object"] == "list"
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        seen += [file["id"] for file in page["data"]]
    assert seen == made
    assert [one["id"] for one in (await call(one, "GET")).json()["data"]] == made[::-1]
    assert [one["id"] for one in (await call(one, "GET", "?purpose=fine-tune")).json()["data"]] == made[-1:]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("order=up", "order"),
        ("purpose=batch", "purpose"),
        ("a=1", "a"),
    ],
)
async def test_a_query_with_a_fault_is_refused_by_name(one: Group, query: str, param: str) -> None:
    answer = await call(one, "GET", f"?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_each_caller_sees_its_own_files_only(one: Group) -> None:
    mine, other = await key(one), await key(one)
    id = (await upload(one, headers=mine)).json()["id"]
    nobodys = (await call(one, "GET", "/file-none")).json()["error"]["message"]
    for headers in (other, {}):
        assert (await call(one, "GET", headers=headers)).json()["data"] == []
        for method, path in (("GET", id), ("GET", f"{id}/content"), ("DELETE", id)):
            answer = await call(one, method, f"/{path}", headers=headers)
            assert answer.status_code == 404
            assert answer.json()["error"]["message"].replace(id, "file-none") == nobodys
        assert (await call(one, "GET", f"?after={id}", headers=headers)).status_code == 404
    assert (await call(one, "GET", f"/{id}/content", headers=mine)).content == b"x"


async def test_files_need_their_scope(one: Group) -> None:
    headers = await key(one, "inference", "conversations")
    for method, path in (("POST", ""), ("GET", ""), ("GET", "/x"), ("GET", "/x/content"), ("DELETE", "/x")):
        answer = await call(one, method, path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


FILE = part("file", b"x", "a.bin")
ANCHOR = part("expires_after[anchor]", b"created_at")
SECONDS = "expires_after.seconds"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (form(PURPOSE), "missing_parameter", "file"),
        (form(FILE), "missing_parameter", "purpose"),
        (form(PURPOSE, FILE, FILE), "invalid_value", "file"),
        (form(PURPOSE, PURPOSE, FILE), "invalid_value", "purpose"),
        (form(part("purpose", b"batch"), FILE), "invalid_value", "purpose"),
        (form(FILE, part("purpose", b"batch")), "invalid_value", "purpose"),
        (form(PURPOSE, part("file", b"x")), "invalid_value", "file"),
        (form(PURPOSE, part("file", b"x", " ")), "invalid_value", "file"),
        (form(PURPOSE, part("file", b"", "a.bin")), "empty_file", "file"),
        (form(part("purpose", b"x" * 2000), FILE), "invalid_value", "purpose"),
        (form(part("purpos", b"user_data"), FILE), "unknown_parameter", None),
        (form(PURPOSE, part("x" * 3000, b""), FILE), "unknown_parameter", None),
        (form(PURPOSE, part("x" * 9000, b""), FILE), "invalid_form", None),
        (form(PURPOSE, ANCHOR, part("expires_after[seconds]", b"60"), FILE), "invalid_value", SECONDS),
        (form(PURPOSE, ANCHOR, part("expires_after[seconds]", b"soon"), FILE), "invalid_value", SECONDS),
        (form(PURPOSE, ANCHOR, FILE), "missing_parameter", SECONDS),
        (form(PURPOSE, FILE)[:-4], "invalid_form", None),
        ((PURPOSE + FILE), "invalid_form", None),
        (b"", "invalid_form", None),
        (b"\r\n" * 5000, "invalid_form", None),
        (b"--other\r\n\r\n", "invalid_form", None),
        (b"{}", "invalid_form", None),
        (f"--{BOUNDARY}\r\nno colon\r\n\r\nx".encode(), "invalid_form", None),
        (f"--{BOUNDARY}\r\n\r\nno name\r\n--{BOUNDARY}--".encode(), "unknown_parameter", None),
        (f"--{BOUNDARY}\r\n".encode() + b"a: b\r\n" * 100 + b"\r\nx", "invalid_form", None),
        (f"--{BOUNDARY}--\r\n".encode(), "missing_parameter", "file"),
    ],
)
async def test_a_form_with_a_fault_is_refused_and_leaves_nothing(
    one: Group, body: bytes, code: str, param: str | None
) -> None:
    await refused(one, await call(one, "POST", content=body, headers=FORM), 400, code, param)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=x",
        f"multipart/form-data; boundary={'x' * 2000}",
    ],
)
async def test_a_body_that_is_no_form_is_refused(one: Group, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    await refused(one, await call(one, "POST", content=form(PURPOSE, FILE), headers=headers), 400, "invalid_form")


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_body_in_pieces_without_a_length_is_taken_wherever_it_is_cut(one: Group, size: int) -> None:
    content = b"\r\n--fron\r\n--frontie" * 40
    body = form(part("file", content, "a.bin"), PURPOSE)
    cut = [body[at : at + size] for at in range(0, len(body), size)]
    made = (await call(one, "POST", content=pieces(cut), headers=FORM)).json()
    assert (await call(one, "GET", f"/{made['id']}/content")).content == content


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.jsonl", "a.jsonl"),
        ("..", ".."),
        ("/", "file"),
        ("a\x00b\x1b[31m\u202e.jsonl", "ab[31m.jsonl"),
        ("x" * 300, "x" * 255),
        ("你好.jsonl", "你好.jsonl"),
    ],
)
def test_a_filename_is_shown_without_folders_and_control_characters(given: str, shown: str) -> None:
    assert shown_name(given) == shown


async def test_a_filename_is_never_used_as_a_path(one: Group) -> None:
    body = form(PURPOSE, part("file", b"x", "../../../out.jsonl"))
    made = (await call(one, "POST", content=body, headers=FORM)).json()
    assert made["filename"] == "out.jsonl"
    assert kept(one) == [made["id"]]
    for id in ("..%2Fstore.db", "%2e%2e", f"{made['id']}.lock", "%00"):
        assert (await call(one, "GET", f"/{id}/content")).status_code == 404


async def test_a_file_beyond_the_limit_is_refused_with_and_without_a_length(one: Group) -> None:
    most = form(PURPOSE, part("file", b"x" * 100_000, "a.bin"))
    assert (await call(one, "POST", content=most, headers=FORM)).status_code == 200
    for id in kept(one):
        await call(one, "DELETE", f"/{id}")
    for size in (100_001, 400_000):
        body = form(PURPOSE, part("file", b"x" * size, "a.bin"))
        cut = [body[at : at + 9999] for at in range(0, len(body), 9999)]
        for content in (body, pieces(cut)):
            answer = await call(one, "POST", content=content, headers=FORM)
            await refused(one, answer, 413, "payload_too_large", "file")


async def test_a_declared_length_beyond_the_limit_is_refused_before_anything_is_read(one: Group) -> None:
    asked = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal asked
        asked += 1
        yield b""

    answer = await call(one, "POST", content=counted(), headers={**FORM, "content-length": "999999999999"})
    await refused(one, answer, 413, "payload_too_large", "file")
    assert asked == 0


async def test_what_follows_the_form_has_an_end_too(one: Group) -> None:
    body = form(PURPOSE, FILE)
    answer = await call(one, "POST", content=pieces([body, *[b"x" * 9999] * 40]), headers=FORM)
    await refused(one, answer, 413, "payload_too_large", "file")


async def test_a_caller_has_room_for_so_many_files_and_bytes(one: Group) -> None:
    for _ in range(2):
        assert (await upload(one, b"x" * 100_000)).status_code == 200
    full = await upload(one, b"x" * 60_000)
    assert (full.status_code, full.json()["error"]["code"]) == (400, "quota_exceeded")
    for _ in range(3):
        assert (await upload(one)).status_code == 200
    assert (await upload(one)).json()["error"]["code"] == "quota_exceeded"
    assert (await upload(one, headers=await key(one))).status_code == 200
    assert len(kept(one)) == 6
    one.configure(files={"stored_files": 6})
    assert (await upload(one)).status_code == 200


@given(st.binary(min_size=1, max_size=300), st.integers(1, 80))
def test_any_content_comes_through_the_form_whole_wherever_it_is_cut(content: bytes, size: int) -> None:
    with TemporaryDirectory() as place:
        change = Contents(Path(place)).change("file-a")
        taken = Form(FORM["content-type"].encode(), change, 1000)
        body = form(part("file", content, "a.bin"), PURPOSE)
        for at in range(0, len(body), size):
            taken.feed(body[at : at + size])
        assert taken.finish().purpose == "user_data"
        assert change.part.read_bytes() == content
        assert change.sha256 == hashlib.sha256(content).hexdigest()
        change.end()
