"""Which checkpoint a run goes on from, and what is said of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.finetuning import recipe
from train.checkpoints import Checkpoints, Engine, Manifest
from train.finetune.job import Job
from train.run_folder import RunFolder
from train.worker.loop import last_whole


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(recipe(tmp_path / "base", tmp_path / "chats.jsonl"), RunFolder(str(tmp_path / "runs"), "one"))


def save(job: Job, step: int, engine: Engine | None) -> None:
    """A checkpoint that this engine has made."""
    source = Path(job.folder.storage)
    source.mkdir(exist_ok=True)
    (source / "weights.bin").write_bytes(b"weights")
    checkpoints = Checkpoints(job.folder)
    checkpoints.begin(step)
    files = checkpoints.add(step, source, ["weights.bin"])
    now = datetime.now(UTC)
    made = Manifest(
        step=step, total_steps=9, epoch=1, tokens=1, workers=1, created=now, engine=engine, versions={}, files=files
    )
    checkpoints.finish(made)


@pytest.mark.parametrize(
    ("made", "goes_on", "told"),
    [
        ("unsloth", "unsloth", False),
        ("peft", "peft", False),
        (None, "peft", False),
        ("peft", "unsloth", True),
        ("unsloth", "peft", True),
    ],
)
def test_another_engine_goes_on_and_says_so(job: Job, made: Engine | None, goes_on: Engine, told: bool) -> None:
    save(job, 3, made)
    said: list[str] = []
    assert last_whole(job, goes_on, said.append) == 3
    assert [f"by {goes_on} from a checkpoint that {made} has made" in line for line in said] == [True] * told


def test_one_that_is_not_whole_is_passed_over_and_it_is_told(job: Job) -> None:
    save(job, 3, "peft")
    save(job, 6, "peft")
    job.folder.write("checkpoints/6/weights.bin", b"changed")
    said: list[str] = []
    assert last_whole(job, "peft", said.append) == 3
    assert len(said) == 1 and "the checkpoint of step 6 is passed over" in said[0]


def test_a_run_without_checkpoints_begins(job: Job) -> None:
    assert last_whole(job, "peft", pytest.fail) is None
