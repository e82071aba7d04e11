"""The command: options, exit codes, what it prints, and the group's own store."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serve.store import Conversation, Feedback, Store
from tests.unit.train.dataset.exports.samples import (
    ALPACA,
    OPENAI,
    chatgpt,
    chatgpt_chat,
    chatgpt_node,
    claude,
    write,
)
from train.dataset.exports.command import main
from train.dataset.rows import Row

T0 = datetime(2026, 5, 17, tzinfo=UTC)


def run(tmp_path: Path, *arguments: str) -> tuple[int, list[Row]]:
    out = tmp_path / "out.jsonl"
    code = main([*arguments, "--out", str(out)])
    return code, [Row.from_json(line) for line in out.read_bytes().splitlines()] if out.exists() else []


def test_several_inputs_become_one_file_and_the_report_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(tmp_path / "a", [chatgpt_chat()]), write(tmp_path / "b", [claude(), chatgpt_chat()])
    code, rows = run(tmp_path, first, second)
    assert code == 0
    assert [row.id for row in rows] == ["chatgpt:c1", "claude:k1"]
    assert capsys.readouterr().err == "read 3, written 2 (chatgpt 1, claude 1)\nduplicates: 1\n"


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [chatgpt_chat(), claude(), OPENAI, ALPACA])
    run(tmp_path, path)
    before = (tmp_path / "out.jsonl").read_bytes()
    run(tmp_path, path)
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_a_fault_is_told_with_its_place_and_the_code_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.json", '[{"mapping": 1, "title": "private"},' + json.dumps(chatgpt_chat()) + "]")
    code, rows = run(tmp_path, path)
    assert (code, len(rows)) == (3, 1)
    told = capsys.readouterr().err
    assert f"skipped: {path}, conversation 1 (line 1, byte 1): wrong_value: mapping is not an object" in told
    assert "private" not in told


def test_strict_writes_nothing_and_the_code_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = run(tmp_path, write(tmp_path / "a.json", [OPENAI, {"mapping": 1, "title": ""}]), "--strict")
    assert (code, rows) == (1, [])
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_the_report_as_json_is_alone_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, write(tmp_path / "a.json", [OPENAI, {"x": 1}]), "--json")
    report = json.loads(capsys.readouterr().out)
    assert (report["files"], report["read"], report["written"]) == (1, 2, 1)
    assert report["problems"][0]["reason"] == "unknown_shape"


def test_rows_go_to_standard_output_for_a_dash(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main([write(tmp_path / "a.json", [OPENAI]), "--out", "-"]) == 0
    assert Row.from_json(capfdbinary.readouterr().out).source == "openai"


def test_branches_source_and_times_are_passed_on(tmp_path: Path) -> None:
    forked = chatgpt(
        chatgpt_node("u", None, "user", "?"),
        chatgpt_node("a", "u", "assistant", "1"),
        chatgpt_node("b", "u", "assistant", "2"),
    )
    path = write(tmp_path / "a.json", [forked, OPENAI])
    assert len(run(tmp_path, path, "--branches", "all")[1]) == 3
    assert [row.source for row in run(tmp_path, path, "--source", "openai")[1]] == ["openai"]
    assert run(tmp_path, path, "--since", "2024-05-07")[1] == []
    assert len(run(tmp_path, path, "--until", "2024-05-07T00:00:00Z")[1]) == 1
    assert len(run(tmp_path, path, "--model", "gpt-4o")[1]) == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--from-store"),
        (["gone.json"], "gone.json"),
        (["{here}", "--tenant", "x"], "--tenant"),
        (["{here}", "--since", "yesterday"], "yesterday"),
        (["{here}", "--since", "2026-01-02", "--until", "2026-01-01"], "--since"),
        (["{here}", "--source", "aol"], "aol"),
        (["--from-store", "--database-url", "sqlite:///{folder}/gone.db"], "gone.db"),
    ],
)
def test_wrong_usage_is_one_line_that_names_it_and_the_code_is_2(
    tmp_path: Path, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = write(tmp_path / "a.json", [OPENAI])
    with pytest.raises(SystemExit) as left:
        run(tmp_path, *(argument.format(here=here, folder=tmp_path) for argument in arguments))
    assert left.value.code == 2
    assert word in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_an_input_is_never_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", [OPENAI])
    with pytest.raises(SystemExit):
        run(tmp_path, path)
    assert json.loads(Path(path).read_text()) == [OPENAI]


def test_the_output_may_lie_in_a_folder_of_inputs_and_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "a.json", [OPENAI])
    for _ in range(2):
        code, rows = run(tmp_path, str(tmp_path))
        assert (code, len(rows)) == (0, 1)


async def fill(url: str) -> None:
    request = {"messages": [{"role": "user", "content": "Capital?"}]}
    choices = [{"index": 0, "message": {"role": "assistant", "content": "London."}}]
    async with Store(url) as store:
        for number, (tenant, model) in enumerate([("local", "a"), ("local", "b"), ("key_1", "a")]):
            moment = T0 + timedelta(days=number)
            await store.conversations.add(Conversation(f"c{number}", tenant, moment, model, request, choices))
        await store.feedback.add(Feedback("f1", "c1", "local", T0, rating="down", correction="Paris."))
        await store.feedback.add(Feedback("f2", "c2", "key_1", T0, rating="up"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["c0", "c1", "c2"]),
        (["--tenant", "local"], ["c0", "c1"]),
        (["--model", "a"], ["c0", "c2"]),
        (["--since", "2026-05-18"], ["c1", "c2"]),
        (["--until", "2026-05-18"], ["c0"]),
        (["--feedback", "good"], ["c1", "c2"]),
        (["--feedback", "corrected"], ["c1"]),
        (["--feedback", "bad"], []),
    ],
)
async def test_the_store_is_filtered_by_tenant_model_time_and_feedback(
    tmp_path: Path, options: list[str], expected: list[str]
) -> None:
    url = f"sqlite:///{tmp_path}/group.db"
    await fill(url)
    code, rows = await asyncio.to_thread(run, tmp_path, "--from-store", "--database-url", url, *options)
    assert code == 0
    assert [row.provenance.source_id for row in rows] == expected
    assert all(row.provenance.file is None for row in rows)
