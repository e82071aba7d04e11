"""What a run says when its workers are lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.events import last_state, read_events
from train.run_folder import RunFolder
from train.worker.losses import Losses


def test_a_run_whose_workers_are_lost_starts_again(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "one")
    folder.make()
    Losses(folder).after_exception(None, {1: RuntimeError("node lost\nmore"), 2: RuntimeError("too")})
    events = read_events(folder)
    assert last_state(events) == "starting"
    assert events[-1].message == "worker 1 is lost: node lost"


def test_a_loss_that_cannot_be_told_of_does_not_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    Losses(RunFolder(str(tmp_path / "file"), "one")).after_exception(None, {0: RuntimeError("lost")})
    assert "could not be told of" in caplog.text
