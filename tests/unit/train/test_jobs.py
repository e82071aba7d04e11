"""What the gateway's job client does without Ray: commands, logs in the run's folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from train.jobs import KEPT_LOG, RunFolder, command_of, keep_log, kept_log, pause


def test_a_run_goes_on_by_the_command_that_began_it(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path), "ftjob-1")
    assert command_of(run) == command_of(RunFolder.of(run.address))
    assert command_of(run)[1:] == [
        *("-m", "train.finetune", "--config", f"{tmp_path}/ftjob-1/job.yaml"),
        *("--run", "ftjob-1", "--storage", str(tmp_path), "--wait", "300", "--spare-serving"),
    ]


def test_of_what_an_attempt_printed_the_end_is_kept(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path), "ftjob-1")
    assert kept_log(run, 1) is None
    keep_log(run, 1, "x" * KEPT_LOG + "the end \ud800 שלום 👩")
    text = kept_log(run, 1)
    assert text is not None and text.endswith("the end ? שלום 👩") and len(text.encode()) == KEPT_LOG
    assert kept_log(run, 2) is None


def test_a_run_is_asked_to_pause_in_its_folder(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path), "ftjob-1")
    pause(run)
    assert run.read_json("control.json") == {"wanted": "pause"}


def test_the_client_brings_nothing_heavy_into_the_gateway() -> None:
    heavy = "{'torch', 'transformers', 'pyarrow', 'datasets', 'matplotlib'}"
    code = f"import sys, train.jobs; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
