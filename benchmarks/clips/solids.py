"""Solids with a picture on each of their six sides, drawn in parallel projection.

A solid is a unit ball or a unit cube, stretched along its axes and turned. Pixels are mapped back into the unit solid,
where the ray through a pixel is `near + z * along`; larger `z` is nearer to the viewer. The ray from the centre through
a point meets a side of the cube, whose picture the point shows.

Coordinates are (x, y, z): right, down and towards the viewer, in pixels.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

SIDES = 6  # -x, +x, -y, +y, -z, +z
SUPERSAMPLING = 2

_LIGHT = np.array([-0.48, -0.6, 0.64], np.float32)
_HALFWAY = np.array([-0.265, -0.331, 0.906], np.float32)  # between the light and the viewer
_AMBIENT, _DIFFUSE, _SPECULAR = 0.42, 0.68, 0.22


class Pose(NamedTuple):
    """Where a solid is: its centre in pixels `(2,)`, x and y, and yaw, pitch and roll in radians `(3,)`."""

    centre: Floats
    angles: Floats

    def rotation(self) -> Floats:
        """Return the map `(3, 3)` from the solid's axes to the viewer's: yaw about y, pitch about x, roll about z."""
        (sy, sp, sr), (cy, cp, cr) = np.sin(self.angles), np.cos(self.angles)
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return np.asarray(roll @ pitch @ yaw, np.float32)


class Silhouette(NamedTuple):
    """A solid's coverage of each pixel: float32 `(h, w)`, whose first pixel is at row `top` and column `left`."""

    top: int
    left: int
    coverage: Floats


class Layer(NamedTuple):
    """A silhouette with its colours in [0, 1], multiplied by the coverage: float32 `(h, w, 3)`."""

    silhouette: Silhouette
    colour: Floats


@dataclass(frozen=True)
class Form(ABC):
    """A shape without pictures, with its semi-axes in pixels `(3,)`."""

    semi_axes: Floats

    @property
    @abstractmethod
    def radius(self) -> float:
        """Largest distance of a point from the centre, in pixels."""

    @abstractmethod
    def reach(self, axes: Floats) -> Floats:
        """Return the solid's half extents `(n,)` in n directions, given its semi-axes in them `(n, 3)`."""

    @abstractmethod
    def hit(self, near: Floats, along: Floats) -> tuple[Bools, Floats]:
        """Return which rays `near + z * along` meet the unit solid, and the largest such `z`, both `(h, w)`."""

    @abstractmethod
    def normals(self, points: Floats) -> Floats:
        """Return the normals of the unit solid at points of its surface, `(3, n)`."""

    def trace(self, pose: Pose) -> "Trace":
        """Cast the rays of all pixels that the solid may cover, also outside the frame."""
        rotation = pose.rotation()
        reach = self.reach((rotation * self.semi_axes)[:2])
        left, top = np.floor(pose.centre - reach).astype(int).tolist()
        right, bottom = np.ceil(pose.centre + reach).astype(int).tolist()
        x = _samples(left, right) - pose.centre[0]
        y = _samples(top, bottom) - pose.centre[1]
        inverse = (rotation / self.semi_axes).T
        near = inverse[:, 0, None, None] * x + inverse[:, 1, None, None] * y[:, None]
        return Trace(top, left, near, *self.hit(near, inverse[:, 2]), inverse)

    def silhouette(self, pose: Pose) -> Silhouette:
        """Return the silhouette of a solid of this form, also outside the frame."""
        trace = self.trace(pose)
        return Silhouette(trace.top, trace.left, _downsampled(trace.inside.astype(np.float32)))


class Ball(Form):
    """The unit ball, stretched."""

    @property
    def radius(self) -> float:
        return float(self.semi_axes.max())

    def reach(self, axes: Floats) -> Floats:
        return np.linalg.norm(axes, axis=1)

    def hit(self, near: Floats, along: Floats) -> tuple[Bools, Floats]:
        a, b = along @ along, _dot(along, near)
        discriminant = b * b - a * ((near * near).sum(0) - 1)
        return discriminant > 0, (np.sqrt(np.maximum(discriminant, 0)) - b) / a

    def normals(self, points: Floats) -> Floats:
        return points


class Box(Form):
    """The cube [-1, 1]³, stretched."""

    @property
    def radius(self) -> float:
        return float(np.linalg.norm(self.semi_axes))

    def reach(self, axes: Floats) -> Floats:
        return np.abs(axes).sum(1)

    def hit(self, near: Floats, along: Floats) -> tuple[Bools, Floats]:
        slope = np.where(np.abs(along) < 1e-6, np.float32(1e-6), along)[:, None, None]
        middle, half = -near / slope, 1 / np.abs(slope)
        out = (middle + half).min(0)
        return out > (middle - half).max(0), out

    def normals(self, points: Floats) -> Floats:
        size = np.abs(points)
        return np.where(size == size.max(0), np.sign(points), 0)


class Trace(NamedTuple):
    """Intersections of rays with a solid.

    Attributes:
        top, left: row and column of the first pixel.
        near: points of the rays at z = 0, in the unit solid, `(3, h * SUPERSAMPLING, w * SUPERSAMPLING)`.
        inside: whether each ray meets the solid.
        depth: the largest z at which it does; undefined for other rays.
        inverse: map from the viewer's coordinates into the unit solid, `(3, 3)`.
    """

    top: int
    left: int
    near: Floats
    inside: Bools
    depth: Floats
    inverse: Floats


@dataclass(frozen=True)
class Solid:
    """A form and the pictures of its sides, float32 `(6, S, S, 3)` in [0, 1]."""

    form: Form
    sides: Floats

    def render(self, pose: Pose) -> Layer:
        """Draw the whole solid, also outside the frame."""
        trace = self.form.trace(pose)
        hits = np.flatnonzero(trace.inside)
        points = trace.near.reshape(3, -1)[:, hits] + trace.inverse[:, 2, None] * trace.depth.take(hits)
        samples = np.zeros((trace.inside.size, 4), np.float32)
        samples[hits, :3] = self._pictures(points) * self._shading(points, trace.inverse)[:, None]
        samples[hits, 3] = 1
        pixels = _downsampled(samples.reshape(*trace.inside.shape, 4))
        return Layer(Silhouette(trace.top, trace.left, pixels[..., 3]), pixels[..., :3])

    def _pictures(self, points: Floats) -> Floats:
        """Return colours of points of the unit solid, `(n, 3)`."""
        size = np.abs(points)
        largest = size.max(0)
        on_x, on_y = size[0] == largest, size[1] == largest
        axis = np.where(on_x, 0, np.where(on_y, 1, 2))
        outer = np.where(on_x, points[0], np.where(on_y, points[1], points[2]))
        across = np.where(on_x, points[2], points[0])
        down = np.where(on_y & ~on_x, points[2], points[1])
        texels = self.sides.shape[1]
        column, row = (
            np.minimum((0.5 * texels * (place / largest + 1)).astype(np.int32), texels - 1) for place in (across, down)
        )
        return self.sides.reshape(-1, 3).take((2 * axis + (outer > 0)) * texels**2 + row * texels + column, axis=0)

    def _shading(self, points: Floats, inverse: Floats) -> Floats:
        """Return the brightness of points of the unit solid, `(n,)`."""
        upright = self.form.normals(points)
        normals = np.stack([_dot(column, upright) for column in inverse.T])
        normals /= np.sqrt((normals**2).sum(0))
        diffuse = np.maximum(_dot(_LIGHT, normals), 0)
        specular = np.maximum(_dot(_HALFWAY, normals), 0)
        for _ in range(4):
            specular *= specular
        return _AMBIENT + _DIFFUSE * diffuse + _SPECULAR * specular


def _dot(vector: Floats, field: Floats) -> Floats:
    x, y, z = vector
    return x * field[0] + y * field[1] + z * field[2]


def _samples(first: int, last: int) -> Floats:
    """Return coordinates of the samples of pixels `first` to `last`."""
    return (np.arange(first * SUPERSAMPLING, last * SUPERSAMPLING, dtype=np.float32) + 0.5) / SUPERSAMPLING


def _downsampled(samples: Floats) -> Floats:
    """Average the samples of each pixel: `(h * S, w * S, ...)` to `(h, w, ...)`."""
    step, total = SUPERSAMPLING, 0.0
    for row in range(step):
        for column in range(step):
            total = total + samples[row::step, column::step]
    return np.asarray(total / step**2, np.float32)
