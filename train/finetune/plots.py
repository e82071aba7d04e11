"""The curves of a run as PNG, by matplotlib, out of its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from train.events import Event

_COLOURS = ("#4c72b0", "#c44e52")

Curve = Sequence[tuple[int, float]]


def draw_curves(folder: Path, events: Sequence[Event]) -> None:
    """Draw ``loss.png`` and ``learning_rate.png``; nothing where the run has not come to its first step.

    After a restart, steps are done again; the last number of each step counts.
    """
    points = {event.data["step"]: event.data for event in events if event.type == "metrics"}

    def curve(name: str) -> Curve:
        return [(step, points[step][name]) for step in sorted(points) if points[step].get(name) is not None]

    if points:
        losses = {"training": curve("loss"), "validation": curve("eval_loss")}
        _draw(folder / "loss.png", "Loss", losses)
        _draw(folder / "learning_rate.png", "Learning rate", {"learning rate": curve("learning_rate")})


def _draw(path: Path, title: str, curves: Mapping[str, Curve]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = {name: curve for name, curve in curves.items() if curve}
    for (name, curve), colour in zip(shown.items(), _COLOURS, strict=False):
        steps, values = zip(*curve, strict=True)
        # A few points, as evaluations are, would be lost in a thin line.
        axes.plot(steps, values, label=name, color=colour, marker="o" if len(curve) <= 20 else None, markersize=4)
    if len(shown) > 1:
        axes.legend()
    axes.set_xlabel("step")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
