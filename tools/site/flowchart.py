"""Flowcharts of docs/ as pictures in the page, so that the site needs no script from a network.

It reads the part of Mermaid's language that `tools.import_graph` writes: `flowchart TD`, and a line for each arrow.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, GAP, RISE = 112, 30, 24, 64
"""Size of a box, the distance between two boxes of a row, and that between two rows, in pixels."""
SWEEPS = 8

Arrow = tuple[str, str]


def draw(source: str, language: str, css_class: str, options: Mapping[str, str], md: Any, **others: Any) -> str:
    """Return a flowchart as SVG: a formatter of fences for pymdownx.superfences.

    Raises:
        ValueError: the chart is in a part of the language that is not read here.
    """
    head, *lines = source.splitlines()
    arrows = [re.fullmatch(r"\s+(\w+) --> (\w+)", line) for line in lines]
    if head != "flowchart TD" or not all(arrows):
        raise ValueError(f"a flowchart must begin with 'flowchart TD' and hold lines 'a --> b', got {source!r}")
    return _svg([(arrow[1], arrow[2]) for arrow in arrows if arrow], css_class)


def rows_of(arrows: Sequence[Arrow]) -> list[list[str]]:
    """Return the boxes row by row, such that arrows point down and cross little."""
    boxes = sorted({box for arrow in arrows for box in arrow})
    level = dict.fromkeys(boxes, 0)
    for _ in boxes:
        for upper, lower in arrows:
            level[lower] = max(level[lower], level[upper] + 1)
    rows = [[box for box in boxes if level[box] == row] for row in range(max(level.values()) + 1)]
    for sweep in range(SWEEPS):
        place = _places(rows)
        for row in rows[1:] if sweep % 2 else rows[-2::-1]:
            middles = {box: _middle(place, arrows, box, below=not sweep % 2) for box in row}
            row.sort(key=middles.__getitem__)
            place |= _places([row])
    return rows


def _places(rows: Iterable[Sequence[str]]) -> dict[str, float]:
    """Return the horizontal place of each box; the middle of every row is 0."""
    return {box: index - (len(row) - 1) / 2 for row in rows for index, box in enumerate(row)}


def _middle(place: Mapping[str, float], arrows: Sequence[Arrow], box: str, *, below: bool) -> float:
    """Return the mean place of the boxes that a box has arrows to, or from."""
    near = [place[b if below else a] for a, b in arrows if (a if below else b) == box]
    return sum(near) / len(near) if near else place[box]


def _svg(arrows: Sequence[Arrow], css_class: str) -> str:
    rows = rows_of(arrows)
    width = max(map(len, rows)) * (WIDTH + GAP)
    height = (len(rows) - 1) * RISE + HEIGHT + 4
    at = {
        box: (width / 2 + place * (WIDTH + GAP), 2 + RISE * index)
        for index, row in enumerate(rows)
        for box, place in _places([row]).items()
    }
    lines = []
    for upper, lower in arrows:
        (x0, y0), (x1, y1) = at[upper], at[lower]
        y0 += HEIGHT
        bend = (y1 - y0) / 2
        lines.append(f'<path d="M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x1:g} {y1 - bend:g} {x1:g} {y1:g}"/>')
    boxes = "".join(
        f'<rect x="{x - WIDTH / 2:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="4"/>'
        f'<text x="{x:g}" y="{y + HEIGHT / 2:g}">{escape(box)}</text>'
        for box, (x, y) in at.items()
    )
    told = escape("; ".join(f"{upper} imports {lower}" for upper, lower in arrows))
    return (
        f'<svg class="{css_class}" width="{width:g}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{told}">'
        f"<g>{''.join(lines)}</g>{boxes}</svg>"
    )
