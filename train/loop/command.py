"""``python -m train.loop``: one round of the loop, or the rest of one that was killed.

Exit codes: 0 done, or nothing to learn from; 1 failed; 2 wrong usage; 3 done, and the gate did not pass the adapter;
130 interrupted. After 1 and 130 the same command goes on with the step that it was at.
"""

from __future__ import annotations

import argparse
import sys
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
from train.loop.steps import ACTIONS, LoopFailed, NothingToLearn, Work, next_round
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
        " pass the adapter; 130 interrupted",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="such as configs/train/loop.yaml")
    return run_command(
        parser,
        argv,
        lambda options: _run(load_settings(options.config)),
        failures=_FAILURES,
        interrupted="interrupted; the same command goes on from here",
    )


def _run(settings: LoopSettings) -> int:
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock(folder / ".lock", timeout=0):
            return _round(settings, folder)
    except NothingToLearn as found:
        _tell(str(found))
        return 0
    except Timeout:
        raise SettingsError(f"another run of this loop works in {folder}") from None


def _round(settings: LoopSettings, folder: Path) -> int:
    state = read_state(folder)
    current = next_round(state)
    for step in STEPS:
        if step in current.done:
            continue
        _tell(f"{current.name}: {step}")
        found = ACTIONS[step](Work(settings, current, state.finished, _tell))
        current = current.with_step(step, found)
        write_state(folder, State(finished=state.finished, current=current))
    write_state(folder, State(finished=current))
    return 0 if current.done["evaluate"]["passed"] else 3


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
