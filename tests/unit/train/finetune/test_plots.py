"""The curves of a run: drawn from its events, whatever these hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.events import Event
from train.finetune.plots import draw_curves


def metrics(seq: int, step: int, **data: Any) -> Event:
    return Event(seq, 0.0, "info", "metrics", "", {"step": step, "loss": 1.0 / step, "learning_rate": 1e-3, **data})


def test_two_pictures_are_drawn_also_after_a_restart(tmp_path: Path) -> None:
    events = [metrics(1, 1), metrics(2, 2), metrics(3, 2, loss=0.4, eval_loss=0.6), metrics(4, 3)]
    draw_curves(tmp_path, events)
    for name in ("loss.png", "learning_rate.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_last_number_of_a_step_counts(tmp_path: Path) -> None:
    for folder, events in {"a": [metrics(1, 1, loss=9.0), metrics(2, 1)], "b": [metrics(1, 1)]}.items():
        (tmp_path / folder).mkdir()
        draw_curves(tmp_path / folder, events)
    assert (tmp_path / "a" / "loss.png").read_bytes() == (tmp_path / "b" / "loss.png").read_bytes()


def test_nothing_is_drawn_before_the_first_step(tmp_path: Path) -> None:
    draw_curves(tmp_path, [Event(1, 0.0, "info", "state", "", {"state": "starting"})])
    assert not list(tmp_path.iterdir())
