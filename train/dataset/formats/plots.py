"""Plots of a data set as SVG, by matplotlib: the same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: More bars than this are summed up in one.
MOST_BARS = 20
_COLOUR = "#4c72b0"


def draw_bars(path: Path, title: str, counts: Mapping[str, int], unit: str) -> None:
    """Horizontal bars, the largest on top; names are cut to a readable length.

    Args:
        unit: what is counted, for the axis.
    """
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ordered[:MOST_BARS]
    if len(ordered) > MOST_BARS:
        shown = [*ordered[: MOST_BARS - 1], ("others", sum(count for _, count in ordered[MOST_BARS - 1 :]))]
    names = [_plain(name) for name, _ in shown]
    values = [count for _, count in shown]
    _draw(path, title, names, values, unit=unit, sideways=True)


def draw_lengths(path: Path, title: str, doublings: Mapping[int, int], unit: str) -> None:
    """A histogram of lengths whose bars each go up to twice where they begin.

    Args:
        doublings: as ``Lengths.doublings`` gives them.
        unit: what lengths are counted in, for the axis.
    """
    names = [f"{_short(start)}-{_short(start * 2 - 1)}" if start > 1 else str(start) for start in doublings]
    _draw(path, title, names, list(doublings.values()), unit=unit, sideways=False)


def _draw(path: Path, title: str, names: list[str], values: list[int], *, unit: str, sideways: bool) -> None:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Names of groups in the file come from the salt; the default is another one each time.
    with rc_context({"svg.hashsalt": "groupqwen", "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
        height = 1.2 + 0.28 * max(len(names), 2) if sideways else 3.2
        figure = Figure(figsize=(7, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        places = range(len(names))
        if sideways:
            bars = axes.barh(places, values, color=_COLOUR)
            axes.set_yticks(places, names)
            axes.invert_yaxis()
            axes.set_xlabel(unit)
        else:
            bars = axes.bar(places, values, width=0.9, color=_COLOUR)
            axes.set_xticks(places, names, rotation=45, ha="right")
            axes.set_xlabel(unit)
        axes.bar_label(bars, labels=[f"{value:,}" for value in values], padding=2, fontsize=8)
        # Room for the numbers at the bars' ends.
        axes.margins(x=0.12 if sideways else None, y=None if sideways else 0.12)
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _plain(name: str) -> str:
    """A name that the font can show: what it has no shapes for would be drawn as boxes, with a warning."""
    shown = "".join(character if " " <= character <= "~" else "?" for character in name)
    # Matplotlib takes what is between two dollar signs for a formula.
    shown = shown.replace("$", "\\$")
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def _short(number: int) -> str:
    """1536 as 1.5k."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)
