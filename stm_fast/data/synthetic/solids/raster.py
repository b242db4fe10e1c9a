"""A z-buffer in NumPy: which triangle of a mesh each pixel shows.

All triangles are cut into rows, and all rows into samples, each in a few array operations. The nearest sample of each
pixel is found with one 64-bit maximum over (nearness, triangle). Only what is visible is shaded afterwards.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

MAX_SAMPLES = 1 << 20
MIN_DOUBLED_AREA = 1e-3
_TRIANGLE_BITS = np.uint64(32)
_HALF = np.float32(0.5)


class Window(NamedTuple):
    """A rectangle of pixels: rows `top` to `bottom` and columns `left` to `right`, the ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top


class Samples(NamedTuple):
    """Points of triangles at pixels' centres.

    Attributes:
        triangle: index of the triangle `(n,)`.
        pixel: index of the pixel in the window, row by row `(n,)`.
        dx, dy: distance in pixels from the first corner of the triangle `(n,)`.
    """

    triangle: Ints
    pixel: Ints
    dx: Floats
    dy: Floats

    def part(self, index: Ints) -> "Samples":
        """Return some of the samples."""
        return Samples(*(np.take(values, index) for values in self))  # type: ignore[arg-type]


class Planes(NamedTuple):
    """A quantity that is linear over each triangle in the picture: `a * dx + b * dy + c`, each `(N,)`."""

    a: Floats
    b: Floats
    c: Floats

    @classmethod
    def through(cls, corners: Floats, values: Floats) -> "Planes":
        """Return the planes that have `values` `(N, 3)` at the corners `(N, 3, 2)` of triangles that are not flat."""
        edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        rise1, rise2 = values[:, 1] - values[:, 0], values[:, 2] - values[:, 0]
        area = doubled_areas(corners)
        a = (rise1 * edge2[:, 1] - rise2 * edge1[:, 1]) / area
        b = (rise2 * edge1[:, 0] - rise1 * edge2[:, 0]) / area
        return cls(a.astype(np.float32), b.astype(np.float32), values[:, 0].astype(np.float32))

    def at(self, samples: Samples) -> Floats:
        """Return the quantity at samples `(n,)`."""
        value: Floats = self.a.take(samples.triangle) * samples.dx
        value += self.b.take(samples.triangle) * samples.dy
        value += self.c.take(samples.triangle)
        return value


def doubled_areas(corners: Floats) -> Floats:
    """Return twice the signed areas `(N,)` of triangles `(N, 3, 2)`."""
    one, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area: Floats = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]
    return area


def visible_samples(
    corners: Floats, nearness: Floats, window: Window, holes: Callable[[Samples], Ints] | None = None
) -> Samples:
    """Return what each pixel of a window shows: the nearest triangle over its centre, if there is one.

    Args:
        corners: corners of the triangles `(N, 3, 2)`: x and y in pixels. None is flatter than `MIN_DOUBLED_AREA`.
        nearness: positive and larger for what is nearer, at the corners `(N, 3)`; linear over a triangle in the
            picture, as 1/z is.
        window: the pixels that are wanted.
        holes: returns the indices of the samples that lie in holes of their triangle.
    """
    planes = Planes.through(corners, nearness)
    nearest = np.zeros(window.height * window.width, np.uint64)
    for triangle, x, y in _covered(corners, window):
        samples = _located(corners, window, triangle, x, y)
        near = np.maximum(planes.at(samples), np.float32(1e-12)).view(np.uint32).astype(np.uint64)
        near <<= _TRIANGLE_BITS
        near |= samples.triangle.view(np.uint64)
        if holes is not None:
            near[holes(samples)] = 0
        np.maximum.at(nearest, samples.pixel, near)
    shown = np.flatnonzero(nearest)
    triangle = (nearest.take(shown) & np.uint64(0xFFFFFFFF)).astype(np.int64)
    y, x = np.divmod(shown, window.width)
    return _located(corners, window, triangle, x + window.left, y + window.top)


def _located(corners: Floats, window: Window, triangle: Ints, x: Ints, y: Ints) -> Samples:
    first_x, first_y = np.ascontiguousarray(corners[:, 0].T - _HALF)
    dx = x.astype(np.float32) - first_x.take(triangle)
    dy = y.astype(np.float32) - first_y.take(triangle)
    return Samples(triangle, (y - window.top) * window.width + (x - window.left), dx, dy)


def _covered(corners: Floats, window: Window) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield triangles, columns and rows of all pixels whose centres lie in triangles, about `MAX_SAMPLES` at a time."""
    order = np.argsort(corners[..., 1], axis=1)
    upper, middle, lower = (np.take_along_axis(corners, order[:, k, None, None], 1)[:, 0] for k in range(3))
    first, last = (np.ceil(np.clip(end[:, 1] - _HALF, window.top, window.bottom)) for end in (upper, lower))
    triangle, y = _ranges(first.astype(np.int64), last.astype(np.int64))
    centre = y.astype(np.float32) + _HALF
    side = _Edges(upper, lower).crossing(triangle, centre)
    above = centre < middle[:, 1].take(triangle)
    bent = np.where(
        above, _Edges(upper, middle).crossing(triangle, centre), _Edges(middle, lower).crossing(triangle, centre)
    )
    left, right = (
        np.ceil(np.clip(end - _HALF, window.left, window.right)).astype(np.int64)
        for end in (np.minimum(side, bent), np.maximum(side, bent))
    )
    total = np.cumsum(right - left)
    count = int(total[-1]) if len(total) else 0
    cuts = np.searchsorted(total, np.arange(MAX_SAMPLES, count, MAX_SAMPLES))
    for start, end in zip([0, *cuts], [*cuts, len(y)], strict=True):
        row, x = _ranges(left[start:end], right[start:end])
        row += start
        yield triangle.take(row), x, y.take(row)


class _Edges(NamedTuple):
    """Lines from `start` down to `end`, both `(N, 2)`."""

    start: Floats
    end: Floats

    def crossing(self, index: Ints, y: Floats) -> Floats:
        """Return where lines `index` cross rows `y`, both `(n,)`."""
        height = np.maximum(self.end[:, 1] - self.start[:, 1], np.float32(1e-6))
        slope = (self.end[:, 0] - self.start[:, 0]) / height
        below = np.clip(y - self.start[:, 1].take(index), 0, height.take(index))
        crossing: Floats = self.start[:, 0].take(index) + slope.take(index) * below
        return crossing


def _ranges(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Return the numbers `first` to `last - 1` of each pair, with the index of the pair before them."""
    counts = np.maximum(last - first, 0)
    index = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return index, np.arange(len(index)) + (first - starts).take(index)
