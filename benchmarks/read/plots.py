"""Plots of the read: time, fraction of the peak, and extra memory against T."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks import figure

COLOURS = {
    "stm-fast": "#0b6e4f",
    "plain": "#c0392b",
    "SDPA": "#2e6da4",
    "SDPA, padded keys": "#8e6bbf",
    "FlexAttention": "#d9822b",
}
MARKERS = {"stm-fast": "o", "plain": "s", "SDPA": "^", "SDPA, padded keys": "v", "FlexAttention": "D"}

Lines = dict[str, list[tuple[int, float]]]


def draw(report: dict[str, Any], out: Path) -> None:
    """Write read_time.png, read_peak.png and read_memory.png."""
    dense = [result for result in report["results"] if re.match(r"read, \w+, \(128, 512\), T", result["case"])]
    dtypes = ("float32", "bfloat16")
    times: dict[str, Lines] = {dtype: defaultdict(list) for dtype in dtypes}
    peaks: Lines = defaultdict(list)
    for result in dense:
        _, dtype, *_, frames = result["case"].replace("T = ", "").split(", ")
        for name, seconds in result["seconds"].items():
            times[dtype][name].append((int(frames), 1e3 * seconds))
        for unit, fraction in result["fractions"].items():
            peaks[f"{dtype} read, of {unit}"].append((int(frames), 100 * fraction))
    _save(out / "read_time.png", [(f"{dtype}, keys 128, values 512", times[dtype]) for dtype in dtypes], "ms per read")
    _save(out / "read_peak.png", [("fraction of the peak in registers", peaks)], "%", log=False)
    lines = report["memory_by_frames"].items()
    memory: Lines = {name: [(int(t), mb) for t, mb in line.items()] for name, line in lines}
    _save(out / "read_memory.png", [("memory beyond inputs and outputs, float32", memory)], "MB", floor=0.1)


def draw_gpu(results: list[dict[str, Any]], frames: tuple[int, ...], out: Path) -> None:
    """Write gpu_time.png: time of the dense read against T, by contender."""
    panels = []
    for dtype in ("float32", "bfloat16"):
        lines: Lines = defaultdict(list)
        for count in frames:
            for result in results:
                if result["case"] == f"read, {dtype}, (128, 512), T = {count}":
                    for name, seconds in result["seconds"].items():
                        lines[f"{name} ({result['engine']})" if name == "stm-fast" else name].append(
                            (count, 1e3 * seconds)
                        )
        panels.append((f"{dtype}, keys 128, values 512", lines))
    _save(out / "gpu_time.png", panels, "ms per read")


def _save(path: Path, panels: list[tuple[str, Lines]], unit: str, log: bool = True, floor: float = 0.0) -> None:
    with figure.saved(path, 1, len(panels), figsize=(6.4 * len(panels), 4.4), sharey=True) as (drawn, axes):
        for axis, (title, lines) in zip(axes[0], panels, strict=True):
            for name, points in lines.items():
                points = sorted(points)
                style = {"color": COLOURS[name], "marker": MARKERS[name]} if name in COLOURS else {"marker": "o"}
                x, y = zip(*points, strict=True)
                axis.plot(x, [max(value, floor) for value in y], label=name, linewidth=2, markersize=6, **style)
            axis.set_xscale("log")
            if log:
                axis.set_yscale("log")
            else:
                axis.set_ylim(bottom=0)
            ticks = sorted({x for points in lines.values() for x, _ in points})
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.minorticks_off()
            axis.set_xlabel("memory frames T at 480p (1620 tokens each)")
            axis.set_title(title)
            axis.grid(True, alpha=0.3)
            axis.legend(frameon=False)
        axes[0][0].set_ylabel(unit)
        drawn.tight_layout()
