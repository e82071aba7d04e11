"""Zip archives: what is refused, and what is saved of a broken one."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from tests.unit.train.dataset.exports.samples import chatgpt_chat, claude, events, write, zipped
from train.dataset.exports import archives
from train.dataset.exports.archives import ZipLimits
from train.dataset.exports.problems import Problem, Reason, Unusable

CHATS = [chatgpt_chat(f"c{number}", said=f"Answer {number} " * 20) for number in range(200)]
IDS = [f"chatgpt:c{number}" for number in range(200)]


def reasons(problems: list[Problem]) -> list[Reason]:
    return [problem.reason for problem in problems]


def archive(tmp_path: Path, *infos: zipfile.ZipInfo) -> str:
    """An archive of good chats after members of these names."""
    packed = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w") as target:
        warnings.simplefilter("ignore")  # Of names that come twice.
        for info in infos:
            target.writestr(info, "[]")
        target.writestr("conversations.json", '[{"mapping": {}, "title": ""}]')
    return write(tmp_path / "e.zip", packed.getvalue())


def refused(path: str, limits: ZipLimits | None = None) -> list[Reason | None]:
    with open(path, "rb") as file:
        found = list(archives.members(file, limits or ZipLimits()))
    return [one.refused.reason if one.refused else None for one in found]


def test_numbered_parts_are_read_and_other_files_are_passed_over(tmp_path: Path) -> None:
    members = {
        "conversations-000.json": CHATS[:2],
        "conversations-001.json": CHATS[2:4],
        "user.json": {"id": "u", "email": "a@example.org"},
        "message_feedback.json": [{"id": "m", "rating": "thumbs_up"}],
        "chat.html": "<html>",
        "file-1.png": b"\x89PNG\r\n",
        "empty.json": b"",
    }
    rows, problems = events(write(tmp_path / "e.zip", zipped(members)))
    assert [row.id for row in rows] == IDS[:4]
    assert [row.provenance.member for row in rows] == ["conversations-000.json"] * 2 + ["conversations-001.json"] * 2
    assert set(reasons(problems)) == {Reason.NOT_CONVERSATIONS}


@pytest.mark.parametrize(
    "name",
    ["../e.json", "a/../../e.json", "/etc/e.json", "C:\\e.json", "..\\e.json", "\\\\host\\e.json", "a\0b.json"],
)
def test_a_name_that_leads_out_of_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    assert refused(archive(tmp_path, info)) == [Reason.UNSAFE_NAME, None]


def test_a_link_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("e.json")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert refused(archive(tmp_path, info)) == [Reason.UNSAFE_NAME, None]


def test_the_second_of_two_equal_names_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, zipfile.ZipInfo("e.json"), zipfile.ZipInfo("e.json"))
    assert refused(path) == [None, Reason.DUPLICATE_NAME, None]


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(Path(archive(tmp_path, zipfile.ZipInfo("e.json"))).read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    assert refused(write(tmp_path / "x.zip", bytes(data))) == [Reason.ENCRYPTED, None]


def test_too_many_members_are_refused_before_the_directory_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "e.zip", zipped({f"{number}": "" for number in range(20)}))
    with pytest.raises(Unusable) as raised:
        refused(path, ZipLimits(members=19))
    assert raised.value.reason is Reason.ZIP_LIMIT


def test_a_directory_that_claims_to_be_enormous_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": "b"}))
    struct.pack_into("<I", data, data.index(b"PK\x05\x06") + 12, 0xFFFFFF00)
    _, problems = events(write(tmp_path / "e.zip", bytes(data)))
    assert Reason.ZIP_LIMIT in reasons(problems)


def test_what_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    bomb = zipped({"bomb.json": b"[" + b" " * (40 << 20), "conversations.json": CHATS})
    rows, problems = events(write(tmp_path / "e.zip", bomb))
    assert Reason.ZIP_LIMIT in reasons(problems)
    assert rows == [] or [row.id for row in rows] == IDS


def test_a_bomb_whose_directory_is_lost_is_refused_while_it_is_read(tmp_path: Path) -> None:
    bomb = zipped({"bomb.json": b"[" + b" " * (40 << 20)})
    _, problems = events(write(tmp_path / "e.zip", bomb[:-40]))
    assert Reason.ZIP_LIMIT in reasons(problems)


def test_all_members_together_have_a_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "e.zip", zipped({"a": "x" * 100, "b": "x" * 100}))
    with pytest.raises(Unusable) as raised:
        refused(path, ZipLimits(total_bytes=150))
    assert raised.value.reason is Reason.ZIP_LIMIT


def test_archives_inside_are_not_opened_whatever_they_are_called(tmp_path: Path) -> None:
    inner = zipped({"conversations.json": CHATS})
    rows, problems = events(write(tmp_path / "e.zip", zipped({"inner.json": inner, "conversations.json": CHATS[:1]})))
    assert [row.id for row in rows] == IDS[:1]
    assert reasons(problems) == [Reason.NESTED_ARCHIVE]


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_download_that_broke_off_gives_every_conversation_that_is_there(tmp_path: Path, part: float) -> None:
    whole = zipped({"conversations.json": CHATS})
    rows, problems = events(write(tmp_path / "e.zip", whole[: int(len(whole) * part)]))
    assert len(rows) > 200 * part / 3
    assert [row.id for row in rows] == IDS[: len(rows)]
    assert {Reason.BAD_ZIP, Reason.CUT_OFF} <= set(reasons(problems))


def test_without_its_directory_an_archive_gives_everything(tmp_path: Path) -> None:
    whole = zipped({"user.json": {"a": 1}, "folder/conversations.json": CHATS, "b.json": [claude()]})
    rows, _ = events(write(tmp_path / "e.zip", whole[: whole.index(b"PK\x01\x02")]))
    assert [row.id for row in rows] == [*IDS, "claude:k1"]


def test_a_stored_member_of_a_broken_archive_is_read(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as target:
        target.writestr("c.json", '[{"instruction": "a", "output": "b"}]')
    rows, _ = events(write(tmp_path / "e.zip", packed.getvalue()[:-30]))
    assert len(rows) == 1


def test_damage_within_a_member_costs_what_follows_in_it_only(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.json": CHATS, "b.json": [claude()]}))
    data[len(data) // 2 : len(data) // 2 + 8] = b"\xff" * 8
    rows, problems = events(write(tmp_path / "e.zip", bytes(data)))
    assert rows[-1].id == "claude:k1"
    assert any(reason.fault for reason in reasons(problems))


def test_an_archive_without_conversations_is_not_recognised(tmp_path: Path) -> None:
    _, problems = events(write(tmp_path / "e.zip", zipped({"a.txt": "hello"})))
    assert reasons(problems) == [Reason.NOT_CONVERSATIONS, Reason.NOT_RECOGNISED]
