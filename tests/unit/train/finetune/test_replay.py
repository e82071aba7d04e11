"""Replay: prompts of a file, and rows as often as their weight says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from serve.settings.errors import SettingsError
from tests.finetuning import recipe, tiny_checkpoint, write_chats
from train.events import read_events
from train.finetune import replay
from train.finetune.job import Job
from train.finetune.replay import answer, load_prompts, rows_of_pairs
from train.finetune.wanted import PauseWanted
from train.run_folder import RunFolder

PAIRS = [(f"question {number}", f"answer {number}") for number in range(10)]


def test_prompts_are_the_lines_that_say_something(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# a note\n\n  Grüße? \n日本語 😀\n", encoding="utf-8")
    assert load_prompts(str(path)) == ["Grüße?", "日本語 😀"]


@pytest.mark.parametrize("content", [b"", b"# only a note\n", b"\xff\xfe"])
def test_a_file_without_prompts_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"data\.replay\.prompts: .*prompts\.txt"):
        load_prompts(str(path))


@pytest.mark.parametrize(("weight", "most", "least", "rows"), [(1, 1, 1, 10), (2.5, 3, 2, 25), (0.3, 1, 0, 3)])
def test_each_answer_comes_as_often_as_its_weight_says(weight: float, most: int, least: int, rows: int) -> None:
    made = list(rows_of_pairs(PAIRS, weight, seed=1))
    counts = Counter(row.messages[-1].content for row in made)
    assert len(made) == rows
    assert all(least <= counts[said] <= most for _, said in PAIRS)
    assert made == list(rows_of_pairs(PAIRS, weight, seed=1))
    assert len({row.id for row in made}) == rows


def test_an_answer_that_does_not_end_by_itself_is_left_out(tmp_path: Path) -> None:
    # A model of random numbers says anything, and never comes to an end in two tokens unless by chance.
    base = tiny_checkpoint(tmp_path / "base")
    tiny = recipe(base, write_chats(tmp_path / "x"), data={"replay": {"prompts": "unused", "max_tokens": 2}})
    prompts = [f"Say {number}" for number in range(5)]
    job = Job(tiny, RunFolder(str(tmp_path / "runs"), "one"))
    job.folder.make()
    answers = answer(job.to_config(), prompts)
    assert len(answers) == len(prompts)
    assert None in answers
    assert answers == answer(job.to_config(), prompts)
    assert "answered 5 of 5 prompts" in read_events(job.folder)[-1].message


def test_the_base_is_not_asked_before_there_is_room_for_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paused(job: Job) -> None:
        raise PauseWanted

    monkeypatch.setenv("GROUPQWEN_HOME", str(tmp_path))
    monkeypatch.setattr(replay, "wait_until_free", paused)
    monkeypatch.setattr(replay, "_awaited", pytest.fail)
    (tmp_path / "prompts.txt").write_text("Say 1\n", encoding="utf-8")
    base = tiny_checkpoint(tmp_path / "base")
    wanted = recipe(base, tmp_path / "x", data={"replay": {"prompts": str(tmp_path / "prompts.txt")}})
    with pytest.raises(PauseWanted):
        replay.replayed(Job(wanted, RunFolder(str(tmp_path / "runs"), "one")), base)
