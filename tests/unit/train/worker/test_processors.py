"""The processors of a node that trains and serves."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.group import ROOT

PROGRAM = """
import os, sys, torch
from train.finetune.recipe import Resources
from train.worker.processors import use_processors
os.nice(int(sys.argv[1]))
use_processors(Resources(threads=3, niceness=7))
print(os.nice(0), torch.get_num_threads())
"""


@pytest.mark.parametrize(("before", "after"), [(0, 7), (12, 12)])
def test_a_process_that_trains_lets_those_that_serve_go_first(before: int, after: int) -> None:
    pytest.importorskip("torch")
    if os.nice(0):
        pytest.skip("these tests are nice themselves")
    command = [sys.executable, "-c", PROGRAM, str(before)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout == f"{after} 3\n"
