"""What others want of a run: ``control.json`` in its folder."""

from __future__ import annotations

from train.run_folder import CONTROL, RunFolder


class PauseWanted(Exception):
    """The run is to pause, and nothing of it is under way that would have to be saved first."""


def wants_pause(folder: RunFolder) -> bool:
    """Whether somebody wants the run to pause."""
    wanted = folder.read_json(CONTROL)
    return wanted is not None and wanted.get("wanted") == "pause"


def pause_if_wanted(folder: RunFolder) -> None:
    """Raise ``PauseWanted`` where somebody wants it."""
    if wants_pause(folder):
        raise PauseWanted
