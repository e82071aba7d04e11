"""The data of a run: files of several forms to tokens, once, and faults that name the file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.finetuning import recipe, tiny_checkpoint, write_chats, write_pairs
from tests.unit.train.dataset.formats.rows import chat as row
from train.dataset.formats import IGNORED
from train.finetune.data import DataError, data_on_this_node, prepare_data
from train.run_folder import RunFolder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "runs"), "one")


def rows_of(folder: RunFolder, split: str = "train") -> list[dict[str, Any]]:
    with data_on_this_node(folder) as prepared:
        return list(prepared.rows(split))


def test_openais_files_rows_and_replay_are_learned_together(base: Path, folder: RunFolder, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(row(id="a").to_json())
    both = recipe(
        base, write_chats(tmp_path / "chats.jsonl", 5), data={"train": [str(tmp_path / "chats.jsonl"), str(rows)]}
    )
    prepare_data(both, folder, base, [row(id="replay-0-0")])
    found = rows_of(folder)
    assert len(found) == 7
    for one in found:
        learned = [label for label in one["labels"] if label != IGNORED]
        assert 0 < len(learned) < len(one["input_ids"])


def test_what_is_prepared_stays_when_the_files_change(base: Path, folder: RunFolder, tmp_path: Path) -> None:
    chats = write_chats(tmp_path / "chats.jsonl", 5)
    first = prepare_data(recipe(base, chats), folder, base, [])
    write_chats(chats, 9)
    again = prepare_data(recipe(base, chats), folder, base, [])
    assert again == first
    assert len(rows_of(folder)) == 5


def test_pairs_become_a_prompt_and_two_answers(base: Path, folder: RunFolder, tmp_path: Path) -> None:
    pairs = recipe(base, write_pairs(tmp_path / "pairs.jsonl", 3), objective="dpo")
    prepare_data(pairs, folder, base, [])
    found = rows_of(folder)
    assert len(found) == 3
    assert set(found[0]) == {"id", "prompt_ids", "chosen_ids", "rejected_ids"}


def test_a_curated_set_gives_each_split(base: Path, folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "set" / "data").mkdir(parents=True)
    write_chats(tmp_path / "set" / "data" / "train.jsonl", 6)
    (tmp_path / "set" / "data" / "validation.jsonl").write_bytes(row(id="v").to_json())
    name = str(tmp_path / "set")
    prepare_data(recipe(base, Path(name), data={"train": [name], "validation": [name]}), folder, base, [])
    assert (len(rows_of(folder)), len(rows_of(folder, "validation"))) == (6, 1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"messages": [{"role": "user", "content": "secret"}]}', "no row is left"),
        ('{"messages": [{"role": "robot", "content": "secret"}]}', "data.train"),
        ("{", "data.train"),
        ("", "data.train"),
    ],
)
def test_data_that_cannot_be_learned_from_is_told_without_what_was_said(
    base: Path, folder: RunFolder, tmp_path: Path, content: str, told: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        prepare_data(recipe(base, path), folder, base, [])
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not folder.names("data")


def test_a_row_that_breaks_a_rule_is_named_by_its_line(base: Path, folder: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    broken = {**json.loads(row().to_json()), "messages": []}
    path.write_bytes(row().to_json() + json.dumps(broken).encode())
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2"):
        prepare_data(recipe(base, path), folder, base, [])


def test_a_file_that_is_not_there_is_named(base: Path, folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.train: there is no file .*nothing\.jsonl"):
        prepare_data(recipe(base, tmp_path / "nothing.jsonl"), folder, base, [])


def test_data_in_an_object_store_is_the_same(base: Path, folder: RunFolder, tmp_path: Path) -> None:
    chats = write_chats(tmp_path / "chats.jsonl", 5)
    remote = RunFolder(f"memory://{tmp_path.name}", "one")
    here, there = (prepare_data(recipe(base, chats), one, base, []) for one in (folder, remote))
    assert here["fingerprint"] == there["fingerprint"]
    assert prepare_data(recipe(base, write_chats(chats, 9)), remote, base, []) == there
    assert [one["ids"] for one in rows_of(remote)] == [one["ids"] for one in rows_of(folder)]


def test_a_conversation_in_two_splits_is_refused(base: Path, folder: RunFolder, tmp_path: Path) -> None:
    chats = write_chats(tmp_path / "chats.jsonl", 5)
    with pytest.raises(DataError, match=r"^data\.train\.jsonl: line 1: .* is in another split too"):
        prepare_data(recipe(base, chats, data={"validation": [str(chats)]}), folder, base, [])
