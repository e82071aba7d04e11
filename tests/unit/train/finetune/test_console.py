"""What is told of a run where there is no terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.events import EventLog
from train.finetune.console import told
from train.run_folder import RunFolder


def test_what_happens_from_now_on_is_told_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(str(tmp_path), "one")
    folder.make()
    log = EventLog(folder)
    log.write("message", "from an earlier time")
    with told(folder):
        log.write("message", "a checkpoint is passed over", level="warning")
        for step in range(1, 201):
            point = {"step": step, "total_steps": 200, "loss": 0.5, "tokens_per_second": 12.3}
            log.write("metrics", f"step {step} of 200: loss 0.5000", point)
        log.state("succeeded", "done: 200 steps")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "warning: a checkpoint is passed over"
    assert lines[-2:] == ["step 200 of 200: loss 0.5000, 12 tokens/s", "done: 200 steps"]
    assert len(lines) < 60
    assert "earlier" not in "".join(lines)
