"""Plots of `benchmarks.system.long_video`: accuracy, time and memory against frame numbers."""

from pathlib import Path
from typing import NamedTuple

from benchmarks import figure

POLICY_COLOURS = {
    "window": "#c0392b",
    "least-used": "#d9822b",
    "long-term": "#2e6da4",
    "diverse": "#0b6e4f",
    "official": "#7f7f7f",
}

Lines = dict[str, list[tuple[int, float]]]


class Panel(NamedTuple):
    """Numbers by policy, plotted against frame numbers.

    Attributes:
        unit: label of the axis.
        lines: the numbers.
        begin: start of the axis; None to fit the numbers.
        points: whether to draw points rather than a line, for numbers of single frames.
    """

    unit: str
    lines: Lines
    begin: float | None = 0
    points: bool = False


def draw_long_video(panels: list[Panel], path: Path) -> None:
    """Write one picture of panels above one another."""
    with figure.saved(path, len(panels), 1, figsize=(9, 3.1 * len(panels)), sharex=True) as (drawn, grid):
        axes = grid[:, 0]
        for axis, panel in zip(axes, panels, strict=True):
            style = {"linewidth": 0.6, "marker": "o", "markersize": 5} if panel.points else {"linewidth": 1.8}
            for name, points in panel.lines.items():
                if points:
                    axis.plot(*zip(*points, strict=True), label=name, color=POLICY_COLOURS.get(name), **style)
            axis.set_ylabel(panel.unit)
            if panel.begin is not None:
                axis.set_ylim(bottom=panel.begin)
            axis.grid(True, alpha=0.3)
        handles = axes[1].get_legend_handles_labels()
        drawn.legend(*handles, frameon=False, ncols=len(POLICY_COLOURS), loc="upper center")
        axes[-1].set_xlabel("frame")
        drawn.tight_layout(rect=(0, 0, 1, 0.97))
