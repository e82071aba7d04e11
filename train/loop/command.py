"""``python -m train.loop``: one round of the loop, or the rest of one that was killed.

Exit codes: 0 done, or nothing to learn from; 1 failed; 2 wrong usage; 3 done, and the gate did not pass the adapter;
69 no room to train beside serving; 75 training was hindered by what may pass; 130 interrupted. After 1, 69, 75 and
130 the same command goes on with the step that it was at, and ``--abandon`` gives the round up.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from serve.adapters.errors import RegistryError
from serve.errors import GroupQwenError
from serve.models import ModelSourceError
from serve.settings.errors import SettingsError
from train.dataset.commands import run_command
from train.dataset.formats import TokenizerError
from train.evaluate.served import ServedError
from train.loop.settings import LoopSettings, load_settings
from train.loop.state import STEPS, State, read_state, write_state
from train.loop.steps import ACTIONS, Hindered, LoopFailed, NothingToLearn, Work, next_round
from train.run_folder import StorageError

_FAILURES = (
    LoopFailed,
    SettingsError,
    StorageError,
    RegistryError,
    ServedError,
    TokenizerError,
    ModelSourceError,
    GroupQwenError,
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.loop",
        description="Learn from what people said of answers since the last time.",
        epilog="exit codes: 0 done, or nothing to learn from; 1 failed; 2 wrong usage; 3 done, and the gate did not"
        " pass the adapter; 69 no room to train beside serving; 75 training was hindered by what may pass; 130"
        " interrupted. After 1, 69, 75 and 130 the same command goes on",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="such as configs/train/loop.yaml")
    parser.add_argument(
        "--abandon", action="store_true", help="give up the round that is under way, and do nothing else"
    )
    return run_command(
        parser,
        argv,
        lambda options: _run(load_settings(options.config), _abandon if options.abandon else _round),
        failures=_FAILURES,
        interrupted="interrupted; the same command goes on from here",
    )


def _run(settings: LoopSettings, work: Callable[[LoopSettings, Path], int]) -> int:
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock(folder / ".lock", timeout=0):
            return work(settings, folder)
    except Timeout:
        raise SettingsError(f"another run of this loop works in {folder}") from None


def _round(settings: LoopSettings, folder: Path) -> int:
    state = read_state(folder)
    work = next_round(settings, state, _tell)
    write_state(folder, State(finished=state.finished, current=work.round))
    try:
        work = _carried_out(work, folder)
    except NothingToLearn as found:
        _given_up(work, folder)
        _tell(str(found))
        return 0
    except Hindered as hindrance:
        sys.stderr.write(f"{hindrance}\n")
        return hindrance.code
    write_state(folder, State(finished=work.round))
    return 0 if work.round.done["evaluate"]["passed"] else 3


def _carried_out(work: Work, folder: Path) -> Work:
    """Do the steps that are not done yet; gives the round with all of them."""
    for step in STEPS:
        if step in work.round.done:
            continue
        _tell(f"{work.round.name}: {step}")
        work = replace(work, round=work.round.with_step(step, ACTIONS[step](work)))
        write_state(folder, State(finished=work.before, current=work.round))
    return work


def _abandon(settings: LoopSettings, folder: Path) -> int:
    state = read_state(folder)
    if state.current is None:
        _tell("no round is under way")
        return 0
    _given_up(Work(settings, state.current, state.finished, _tell), folder)
    _tell(f"{state.current.name} is given up")
    return 0


def _given_up(work: Work, folder: Path) -> None:
    """Forget the round, with what it collected and curated; what was trained or published stays."""
    write_state(folder, State(finished=work.before))
    shutil.rmtree(work.folder, ignore_errors=True)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
