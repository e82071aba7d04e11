"""The command: options, exit codes, what it prints."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.unit.train.dataset.curate.samples import DEFAULT, many, rows_in, write_recipe, write_rows
from tests.unit.train.dataset.exports.samples import chatgpt_chat
from train.dataset.curate.command import main
from train.dataset.curate.registry import STEPS


@pytest.fixture
def rows(tmp_path: Path) -> str:
    return write_rows(tmp_path / "rows.jsonl", many(20))


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    return write_recipe(tmp_path / "recipe.yaml", {"step": "length"})


def test_a_run_prints_a_table_and_leaves_only_the_set(
    tmp_path: Path, rows: str, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([rows, "--recipe", recipe, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[0].split() == ["step", "kept", "changed", "dropped", "why"]
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"README.md", "data", "manifest.json", "plots", "report.json"}


def test_the_work_can_be_kept_and_the_report_be_json(
    tmp_path: Path, rows: str, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([rows, "--recipe", recipe, "--out", str(tmp_path / "out"), "--keep-work", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"][1]["name"] == "length"
    assert (tmp_path / "out" / ".work").is_dir()


def test_faults_that_were_skipped_give_3_and_strict_gives_1(
    tmp_path: Path, rows: str, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(rows, "ab") as file:
        file.write(b"{broken\n")
    assert main([rows, "--recipe", recipe, "--out", str(tmp_path / "out"), "--strict"]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert main([rows, "--recipe", recipe, "--out", str(tmp_path / "out")]) == 3
    assert f"skipped: {rows}, line 21: broken_json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "INPUT"),
        (["{rows}"], "--out"),
        (["gone.jsonl", "--out", "{out}"], "gone.jsonl"),
        (["{rows}", "--out", "{rows}"], "is a file"),
        (["{rows}", "--out", "{folder}"], "other files"),
        (["{rows}", "--out", "{out}", "--workers", "-1"], "workers"),
        (["{rows}", "--out", "{out}", "--review"], "terminal"),
    ],
)
def test_wrong_usage_is_one_line_and_the_code_is_2(
    tmp_path: Path, rows: str, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"rows": rows, "out": tmp_path / "out", "folder": tmp_path}
    with pytest.raises(SystemExit) as left:
        main([argument.format(**names) for argument in arguments])
    assert left.value.code == 2
    assert word in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["README.md", "data/mine.jsonl"], "README.md"),
        (["data/mine.jsonl"], "data/mine.jsonl"),
        (["plots/mine.svg"], "plots/mine.svg"),
        (["manifest.json", "data/train.jsonl"], "data/train.jsonl"),
        (["report.json"], "report.json"),
    ],
)
def test_a_folder_that_only_looks_like_a_set_is_left_alone(
    tmp_path: Path, rows: str, recipe: str, files: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in files:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text('{"files": []}')
    with pytest.raises(SystemExit) as left:
        main([rows, "--recipe", recipe, "--out", str(tmp_path / "out")])
    assert left.value.code == 2
    assert f"has other files in it ({told})" in capsys.readouterr().err
    assert all((tmp_path / "out" / name).read_text() == '{"files": []}' for name in files)


@pytest.mark.parametrize("name", ["data/mine.jsonl", "plots/mine.svg"])
def test_a_file_that_was_added_to_a_set_is_not_lost(tmp_path: Path, rows: str, recipe: str, name: str) -> None:
    command = [rows, "--recipe", recipe, "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert main(command) == 0
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(SystemExit):
        main(command)
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_what_is_left_of_an_earlier_attempt_is_no_hindrance(tmp_path: Path, rows: str, recipe: str) -> None:
    (tmp_path / "out" / ".work" / "stage").mkdir(parents=True)
    (tmp_path / "out" / ".work" / "stage" / "rows").touch()
    (tmp_path / "out" / ".lock").touch()
    assert main([rows, "--recipe", recipe, "--out", str(tmp_path / "out")]) == 0


def test_after_a_kill_the_next_run_puts_the_old_set_back_even_if_it_fails(
    tmp_path: Path, rows: str, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([rows, "--recipe", recipe, "--out", str(out)]) == 0
    manifest = (out / "manifest.json").read_bytes()
    made, old = out / ".work" / "set", out / ".work" / "old"
    shutil.copytree(out, made)
    old.mkdir()
    for name in ("manifest.json", "report.json"):
        (out / name).rename(old / name)
    nothing = write_rows(tmp_path / "nothing.jsonl", [])
    assert main([nothing, "--recipe", recipe, "--out", str(out)]) == 4
    assert (out / "manifest.json").read_bytes() == manifest
    assert (out / "report.json").exists()
    assert not old.exists()


@pytest.mark.parametrize("name", ["data", "plots"])
def test_a_set_whose_folder_is_a_link_is_refused(tmp_path: Path, rows: str, recipe: str, name: str) -> None:
    command = [rows, "--recipe", recipe, "--out", str(tmp_path / "out")]
    assert main(command) == 0
    (tmp_path / "out" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SystemExit):
        main(command)
    assert list((tmp_path / "elsewhere").iterdir())


def test_an_input_that_can_be_read_only_once_is_refused(
    tmp_path: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path / "pipe"), "--recipe", recipe, "--out", str(tmp_path / "out")])
    assert left.value.code == 2
    assert "pipe is neither a file nor a folder" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_file_whose_name_is_not_utf_8_is_read_and_named(
    tmp_path: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_rows(tmp_path / os.fsdecode(b"caf\xe9.jsonl"), many(20))
    with open(rows, "ab") as file:
        file.write(b"{broken\n")
    chats = [chatgpt_chat("c1", "Why is the sea salt?", "Rivers bring the salt."), {"mapping": 1}]
    export = tmp_path / os.fsdecode(b"export-\xff.json")
    export.write_text(json.dumps(chats))
    assert main([rows, str(export), "--recipe", recipe, "--out", str(tmp_path / "out"), "--json"]) == 3
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert [Path(file["name"]).name for file in report["inputs"]] == [r"caf\xe9.jsonl", r"export-\xff.json"]
    assert [Path(problem["file"]).name for problem in report["problems"]] == [r"caf\xe9.jsonl", r"export-\xff.json"]
    assert r"caf\xe9.jsonl, line 21: broken_json" in told.err
    assert len(rows_in(tmp_path / "out")) == 21


def test_the_folder_of_the_set_may_have_a_name_that_is_not_utf_8(tmp_path: Path, rows: str) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    held_out = write_rows(tmp_path / "held-out.jsonl", many(25)[20:])
    recipe = write_recipe(
        tmp_path / "recipe.yaml",
        {"step": "length"},
        {"step": "duplicates"},
        {"step": "leakage", "against": [held_out]},
        {"step": "sample", "rows": 15},
    )
    for _ in range(2):
        assert main([rows, "--recipe", recipe, "--out", str(folder / "out"), "--keep-work"]) == 0
        assert len(rows_in(folder / "out")) == 15


def test_two_runs_in_one_folder_are_refused(tmp_path: Path, rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(SystemExit):
        main([rows, "--out", str(tmp_path / "out")])
    assert "another run works" in capsys.readouterr().err


def test_a_folder_of_inputs_may_hold_the_set_of_an_earlier_run(tmp_path: Path, rows: str, recipe: str) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    Path(rows).rename(folder / "rows.jsonl")
    for _ in range(2):
        assert main([str(folder), "--recipe", recipe, "--out", str(folder / "out")]) == 0
    assert [one["name"] for one in json.loads((folder / "out" / "report.json").read_text())["inputs"]] == [
        str(folder / "rows.jsonl")
    ]


def test_a_recipe_is_checked_without_doing_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(DEFAULT)]) == 0
    assert "right; branch, encoding" in capsys.readouterr().out
    wrong = write_recipe(tmp_path / "wrong.yaml", {"step": "lenght"})
    assert main(["--check", wrong]) == 1
    assert capsys.readouterr().err == (
        f"{wrong}: steps[0]: unknown step 'lenght'; did you mean 'length'? Known: {', '.join(sorted(STEPS))}\n"
    )


def test_steps_are_listed_each_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-steps"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(STEPS)
    assert all(len(line.split()) > 3 for line in lines)
