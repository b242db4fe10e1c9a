"""The outlines of a mask as polygons, along the edges of its pixels."""

from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.extent import extent

Ring = NDArray[np.float64]
"""Corners `(N, 2)` of a closed line, x and y in pixels. Pixel (0, 0) covers x and y from 0 to 1."""

_MAX_CHANGE = 0.02
"""Maximum share of its area that a simplified ring may gain or lose."""
_FEW = 8
"""Rings of so few corners stay as they are."""


class Outline(NamedTuple):
    """The outline of a connected part of a mask.

    Attributes:
        exterior: the line around it.
        holes: the lines around its holes, in the opposite direction.
    """

    exterior: Ring
    holes: tuple[Ring, ...]


def outlines(mask: NDArray[np.bool_], tolerance: float = 0.0) -> list[Outline]:
    """Return the outlines of the parts of a mask, the largest part first.

    Pixels are connected along their edges; those that touch at a corner are parts of their own. The pixels whose
    centres are inside the lines, and outside the holes, are those of the mask. With a tolerance this holds up to
    pixels at the outline.

    Args:
        mask: `(H, W)`.
        tolerance: maximum distance, in pixels, by which lines may cut corners; 0 keeps every edge. Steps of a slanted
            line become straight first, through the middles of the pixels' edges. A ring whose area would change by
            more than 2 % is simplified less.
    """
    if not mask.any():
        return []
    rows, columns = extent(mask)
    corner = np.array([columns.start, rows.start])
    sized = [(area(ring), ring + corner) for ring in _rings(mask[rows, columns])]
    exteriors = [ring for size, ring in sorted(sized, key=itemgetter(0), reverse=True) if size > 0]
    holes: list[list[Ring]] = [[] for _ in exteriors]
    boxes = np.array([[*ring.min(axis=0), *ring.max(axis=0)] for ring in exteriors])
    for size, ring in sized:
        if size < 0:
            holes[_around(ring, exteriors, boxes)].append(simplified(ring, tolerance))
    return [Outline(simplified(ring, tolerance), tuple(own)) for ring, own in zip(exteriors, holes, strict=True)]


def area(ring: Ring) -> float:
    """Return the area of a ring in pixels; negative for a hole."""
    x, y = ring[:, 0], ring[:, 1]
    return float(x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0]) / 2


def simplified(ring: Ring, tolerance: float) -> Ring:
    """Return a ring of fewer corners; see `outlines`."""
    if tolerance <= 0 or len(ring) <= _FEW:
        return ring
    smooth, exact = _middles(ring), area(ring)
    while tolerance > 0.1:
        shorter = _reduced(smooth, tolerance)
        if len(shorter) > 2 and abs(area(shorter) / exact - 1) <= _MAX_CHANGE:
            return shorter
        tolerance /= 2
    return ring


def _rings(mask: NDArray[np.bool_]) -> Iterator[Ring]:
    """Yield the rings of a mask: those around parts turn right, so that the mask is on the right of every line.

    No ring meets itself: a line that comes back to one of its corners is cut there.
    """
    width = mask.shape[1] + 1
    corners, ways = _edges(mask, width)
    order = np.argsort(corners * 4 + ways)
    corners, ways = corners[order], ways[order]
    keys = corners * 4 + ways
    ends = corners + np.array([1, width, -1, -width])[ways]
    following = np.full(len(keys), -1)
    for turn in (3, 0, 1):  # left, straight on, right: a right turn counts the most where four edges meet
        wanted = ends * 4 + (ways + turn) % 4
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        following = np.where(keys[found] == wanted, found, following)
    turns = ways[following] != ways
    for ring in _cycles(following.tolist()):
        edges = np.array(ring)
        for simple in _cut(ends[edges[turns[edges]]].tolist()):
            found = np.array(simple)
            yield np.stack([found % width, found // width], 1).astype(np.float64)


def _edges(mask: NDArray[np.bool_], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pixel edges between mask and background: the corners they begin at, and their ways.

    Corners are counted along rows of `width`. Ways are 0 to the right, 1 down, 2 to the left, 3 up.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    beside = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    starts, ways = [], []
    for way, (other, offset) in enumerate(zip(beside, (0, 1, width + 1, width), strict=True)):
        rows, columns = np.nonzero(inside & ~other)
        starts.append(rows * width + columns + offset)
        ways.append(np.full(len(rows), way))
    return np.concatenate(starts), np.concatenate(ways)


def _cycles(following: list[int]) -> Iterator[list[int]]:
    """Yield the cycles of a permutation."""
    seen = bytearray(len(following))
    for first in range(len(following)):
        cycle, each = [], first
        while not seen[each]:
            seen[each] = 1
            cycle.append(each)
            each = following[each]
        if cycle:
            yield cycle


def _cut(corners: list[int]) -> Iterator[list[int]]:
    """Yield rings without repeated corners that make up one with repeated corners."""
    ring: list[int] = []
    places: dict[int, int] = {}
    for corner in corners:
        if corner in places:
            loop = ring[places[corner] :]
            del ring[places[corner] :]
            for each in loop:
                del places[each]
            yield loop
        places[corner] = len(ring)
        ring.append(corner)
    yield ring


def _around(hole: Ring, exteriors: list[Ring], boxes: NDArray[np.float64]) -> int:
    """Return the number of the exterior around a hole: the smallest of those that enclose it."""
    low, high = hole.min(axis=0), hole.max(axis=0)
    candidates = np.flatnonzero((boxes[:, :2] <= low).all(axis=1) & (boxes[:, 2:] >= high).all(axis=1))
    inside = hole[0] + _into(hole)
    for number in candidates[::-1].tolist():
        if _encloses(exteriors[number], inside):
            return int(number)
    raise AssertionError("a hole is in no part")


def _into(hole: Ring) -> NDArray[np.float64]:
    """Return the way from the first corner of a hole to the centre of the pixel of the hole beside the line ahead.

    The mask is on the right of the line, so the hole is on its left.
    """
    x, y = np.sign(hole[1] - hole[0])
    return np.array([x + y, y - x]) / 2


def _encloses(ring: Ring, point: NDArray[np.float64]) -> bool:
    """Return whether a point is inside a ring along pixel edges."""
    nexts = np.roll(ring, -1, axis=0)
    upright = ring[:, 0] == nexts[:, 0]
    crossed = upright & (ring[:, 0] > point[0]) & ((ring[:, 1] > point[1]) != (nexts[:, 1] > point[1]))
    return bool(np.count_nonzero(crossed) % 2)


def _middles(ring: Ring) -> Ring:
    """Return the ring through the middles of the pixels' edges, without corners on straight lines."""
    nexts = np.roll(ring, -1, axis=0)
    ways, lengths = np.sign(nexts - ring), np.abs(nexts - ring).sum(axis=1, keepdims=True)
    first, last = ring + ways / 2, nexts - ways / 2
    both = np.stack([first, last], 1).reshape(-1, 2)
    kept = np.stack([np.ones(len(ring), bool), lengths[:, 0] > 1], 1).reshape(-1)
    return np.asarray(both[kept])


def _reduced(ring: Ring, tolerance: float) -> Ring:
    """Leave out corners that are within a tolerance of the lines between the others (Douglas and Peucker).

    All lines are split at once, each at the corner that is farthest from it, until no corner is too far.
    """
    closed = np.concatenate([ring, ring[:1]])
    corners = np.arange(len(ring))
    kept = np.array([0, int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1))), len(ring)])
    while True:
        spans = np.searchsorted(kept, corners, side="right") - 1
        begin = closed[kept[:-1]][spans]
        x, y = (closed[kept[1:]][spans] - begin).T
        along, down = (ring - begin).T
        lengths = np.hypot(x, y)
        beside = np.abs(x * down - y * along) / np.maximum(lengths, 1e-9)
        distances = np.where(lengths > 0, beside, np.hypot(along, down))
        farthest = np.maximum.reduceat(distances, kept[:-1])
        candidates = np.flatnonzero((distances == farthest[spans]) & (distances > tolerance))
        if not candidates.size:
            return np.asarray(ring[kept[:-1]])
        _, first = np.unique(spans[candidates], return_index=True)
        kept = np.sort(np.concatenate([kept, candidates[first]]))
