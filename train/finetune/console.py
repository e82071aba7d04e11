"""A run's events on the terminal while it goes on: a bar for its steps, and a line for everything else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

from tqdm import tqdm

from train.events import Event, read_events
from train.run_folder import RunFolder

_POLL_SECONDS = 0.5
#: Where there is no terminal, as in a job's log, so many lines at most for the steps of a run.
_MOST_LINES = 50


@contextmanager
def told(folder: RunFolder) -> Iterator[None]:
    """Tell on standard error what happens in the run from now on."""
    console = _Console(folder)
    thread = threading.Thread(target=console.follow, name="events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        console.over.set()
        thread.join()


class _Console:
    """Follows one run."""

    def __init__(self, folder: RunFolder) -> None:
        self.over = threading.Event()
        self._folder = folder
        self._seen = max((event.seq for event in read_events(folder)), default=0)
        self._bar: tqdm[Never] | None = None
        self._line_step = -1

    def follow(self) -> None:
        """Until the run is over, and everything that it said is told."""
        last = False
        while not last:
            last = self.over.wait(_POLL_SECONDS)
            for event in read_events(self._folder, self._seen):
                self._seen = event.seq
                self._tell(event)
        if self._bar is not None:
            self._bar.close()

    def _tell(self, event: Event) -> None:
        if event.type != "metrics":
            self._say(f"{'' if event.level == 'info' else f'{event.level}: '}{event.message}")
        elif sys.stderr.isatty():
            self._move(event)
        else:
            step, total = event.data["step"], event.data["total_steps"]
            if step == total or step - self._line_step >= max(1, total // _MOST_LINES):
                self._line_step = step
                self._say(f"{event.message}, {event.data['tokens_per_second']:.0f} tokens/s")

    def _move(self, event: Event) -> None:
        if self._bar is None:
            self._bar = tqdm(total=event.data["total_steps"], unit="step", dynamic_ncols=True, file=sys.stderr)
        # After a restart it goes back to the last checkpoint.
        self._bar.n = event.data["step"]
        shown = {str(name): f"{event.data[name]:.4f}" for name in ("loss", "eval_loss") if name in event.data}
        self._bar.set_postfix({**shown, "tokens/s": f"{event.data['tokens_per_second']:.0f}"})

    def _say(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)
