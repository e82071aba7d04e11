"""The command: options, exit codes, what it prints."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.train.dataset.formats import models
from tests.unit.train.dataset.formats.rows import answer, chat, row, user
from train.dataset.formats import load_prepared
from train.dataset.formats.command import main


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(chat(f"openai:{number}").to_json() for number in range(40)))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "small"
    models.chat(models.QWEN3).tokenizer.save_pretrained(folder)
    return str(folder)


def run(tmp_path: Path, *arguments: str) -> int:
    return main([*arguments, "--out", str(tmp_path / "out")])


def test_rows_become_a_folder_and_the_report_is_printed(
    tmp_path: Path, rows: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, rows, "--model", model, "--split", "train=1") == 0
    assert capsys.readouterr().err == (
        "read 40, kept 40\ntrain: 40 conversations, 40 answers; 2400 tokens, 38.3 % learned\n"
    )


def test_the_folder_may_have_a_name_that_is_not_utf_8(tmp_path: Path, rows: str, model: str) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    Path(rows).rename(folder / "rows.jsonl")
    assert run(folder, str(folder / "rows.jsonl"), "--model", model, "--split", "train=1") == 0
    assert len(list(load_prepared(folder / "out").rows("train"))) == 1


def test_options_become_settings(
    tmp_path: Path, rows: str, model: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    options = ["--max-tokens", "512", "--long", "drop", "--rewritten", "skip", "--system-prompt", "Hi.", "--no-pack"]
    more = [
        "--template-variables",
        '{"enable_thinking": false}',
        "--split",
        "train=3,test=1",
        "--seed",
        "7",
        "--json",
    ]
    assert run(tmp_path, rows, "--model", model, *options, *more, "--files", "jsonl") == 0
    manifest = json.loads(capsysbinary.readouterr().out)
    assert manifest == load_prepared(tmp_path / "out").manifest
    made = manifest["settings"]
    assert made["encode"] == {
        "max_tokens": 512,
        "long": "drop",
        "rewritten": "skip",
        "system_prompt": "Hi.",
        "variables": {"enable_thinking": False},
    }
    assert made["split"] == {"train": 3.0, "validation": 0.0, "test": 1.0, "seed": 7, "by": "conversation"}
    assert (made["pack"], made["files"], made["tokenizer"]["name"]) == (False, "jsonl", "small")


def test_chats_need_no_model(tmp_path: Path, rows: str) -> None:
    assert run(tmp_path, rows, "--form", "chat", "--split", "train=1") == 0
    assert len(list(load_prepared(tmp_path / "out").rows("train"))) == 40


def test_lines_that_are_no_rows_are_told_by_number_and_nothing_is_written(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    good = chat().to_json()
    private = good.replace(b'"assistant"', b'"private words"')
    path.write_bytes(good + b"{\n" + good + private + b'{"id": "x"}\n')
    assert run(tmp_path, str(path), "--model", model) == 1
    told = capsys.readouterr().err
    assert f"error: {path}: line 2: " in told and f"error: {path}: line 4: messages[1].role: " in told
    assert "line 5: source: this field is required" in told
    assert told.endswith("nothing was written\n") and "private words" not in told
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_what_cannot_be_learned_is_left_out_and_counted(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(chat().to_json() + row(user("?"), answer("<|im_end|>"), id="x").to_json())
    assert run(tmp_path, str(path), "--model", model, "--split", "train=1") == 0
    assert "left out, control_tokens: 1\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--form tokens needs --model"),
        (["--form", "chat", "--model", "m"], "--form chat takes no --model"),
        (["--form", "chat", "--max-tokens", "99"], "--max-tokens"),
        (["--model", "m", "--max-tokens", "3"], "encode.max_tokens"),
        (["--model", "m", "--split", "train"], "train=0.9"),
        (["--model", "m", "--split", "train=1,dev=1"], "split.dev: unknown key"),
        (["--model", "m", "--split", "test=1"], "train must be more than 0"),
        (["--model", "m", "--split", "train=inf,test=1"], "split.train"),
        (["--model", "m", "--split", "train=nan"], "split.train"),
        (["--model", "m", "--split", "train=1e300,test=1e300"], "split.train"),
        (["--model", "m", "--seed", str(10**24)], "split.seed"),
        (["--model", "m", "--seed", str(-(2**63) - 1)], "split.seed"),
        (["--model", "m", "--max-tokens", str(10**24)], "encode.max_tokens"),
        (["--model", "m", "--template-variables", "[]"], "enable_thinking"),
        (["--model", "m", "--workers", "-1"], "--workers"),
    ],
)
def test_wrong_usage_is_one_line_that_names_it_and_the_code_is_2(
    tmp_path: Path, rows: str, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run(tmp_path, rows, *arguments)
    assert left.value.code == 2
    assert word in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["gone.jsonl", "--form", "chat"], "no file or folder gone.jsonl"),
        (["{folder}", "--form", "chat"], "data/train.jsonl"),
        (["{rows}", "--model", "{rows}"], "no tokenizer can be read"),
        (["{rows}", "--model", "{bare}"], "no chat template"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_the_code_is_1(
    tmp_path: Path, rows: str, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, bare = tmp_path / "folder", tmp_path / "bare"
    folder.mkdir()
    tokenizer = models.chat().tokenizer
    tokenizer.chat_template = None
    tokenizer.save_pretrained(bare)
    assert run(tmp_path, *(one.format(folder=folder, rows=rows, bare=bare) for one in arguments)) == 1
    told = capsys.readouterr().err
    assert word in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_template_that_ends_no_answer_is_told_on_the_card(tmp_path: Path, rows: str) -> None:
    plain = tmp_path / "plain"
    models.chat(models.PLAIN).tokenizer.save_pretrained(plain)
    assert run(tmp_path, rows, "--model", str(plain)) == 0
    assert "does not learn where to stop" in (tmp_path / "out" / "README.md").read_text()
