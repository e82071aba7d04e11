"""What a run does not do twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.finetuning import recipe, tiny_checkpoint, write_chats
from train.finetune import run as running
from train.finetune.faults import RunFailed
from train.finetune.job import Job
from train.finetune.run import run
from train.run_folder import RunFolder


def test_the_base_answers_for_replay_once_whatever_node_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def replayed(job: Job, base: Path) -> list[Any]:
        asked.append(base)
        return []

    def lost(job: Job, *, spare_serving: bool) -> dict[str, Any]:
        raise RunFailed("the workers failed")

    monkeypatch.setattr(running, "replayed", replayed)
    monkeypatch.setattr(running, "trained", lost)
    base = tiny_checkpoint(tmp_path / "base")
    job = Job(recipe(base, write_chats(tmp_path / "chats.jsonl", 3)), RunFolder(str(tmp_path / "runs"), "one"))
    for _ in range(2):
        with pytest.raises(RunFailed):
            run(job, progress=False)
    assert len(asked) == 1
