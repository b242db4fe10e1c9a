"""Motion: smooth random paths of affine and thin-plate transformations."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Floats = NDArray[np.float32]


def smooth_walk(frames: int, start: float, step: float, rng: Rng, persistence: float = 0.7) -> Floats:
    """Return a random walk with momentum: `frames` values from `start`, which change by about `step` per frame."""
    velocity = rng.normal(0, step)
    values = [start]
    for _ in range(frames - 1):
        values.append(values[-1] + velocity)
        velocity = persistence * velocity + np.sqrt(1 - persistence**2) * rng.normal(0, step)
    return np.asarray(values, np.float32)


@dataclass
class Path:
    """Poses in the frames of a clip, in units of the frame's side.

    Attributes:
        x, y: position of the centre `(T,)`, 0..1 inside the frame.
        log_scale: logarithm of the size as a fraction of the frame `(T,)`.
        angle: rotation in radians `(T,)`.
        shear, stretch: changes of shape `(T,)`.
    """

    x: Floats
    y: Floats
    log_scale: Floats
    angle: Floats
    shear: Floats
    stretch: Floats

    def matrices(self, side: int) -> Floats:
        """Return maps `(T, 2, 3)` from an object's coordinates, [-1, 1] along its longer side, to pixels."""
        half = 0.5 * np.exp(self.log_scale) * side
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        wide, tall = np.exp(self.stretch), np.exp(-self.stretch)
        matrices = np.empty((len(self.x), 2, 3), np.float32)
        matrices[:, 0, 0] = half * cos * wide
        matrices[:, 0, 1] = half * (cos * self.shear - sin) * tall
        matrices[:, 1, 0] = half * sin * wide
        matrices[:, 1, 1] = half * (sin * self.shear + cos) * tall
        matrices[:, 0, 2] = self.x * side
        matrices[:, 1, 2] = self.y * side
        return matrices


def object_path(frames: int, speed: float, rng: Rng) -> Path:
    """Return an object's path. At `speed` 1 it moves by about a tenth of the frame's side per frame."""
    size = rng.uniform(np.log(0.14), np.log(0.9))
    scale_speed = speed * (rng.uniform(0.10, 0.30) if rng.random() < 0.3 else 0.06)
    margin = 0.12
    return Path(
        x=smooth_walk(frames, rng.uniform(margin, 1 - margin), 0.09 * speed, rng),
        y=smooth_walk(frames, rng.uniform(margin, 1 - margin), 0.07 * speed, rng),
        log_scale=np.clip(smooth_walk(frames, size, scale_speed, rng, 0.9), np.log(0.06), np.log(1.5)),
        angle=smooth_walk(frames, rng.normal(0, 0.25), speed * (0.35 if rng.random() < 0.25 else 0.09), rng),
        shear=smooth_walk(frames, rng.normal(0, 0.12), 0.06 * speed, rng),
        stretch=smooth_walk(frames, rng.normal(0, 0.12), 0.06 * speed, rng),
    )


def camera_path(frames: int, speed: float, rng: Rng) -> Path:
    """Return the camera's path: how it moves all layers, in the same units; zeros are the identity."""
    return Path(
        x=smooth_walk(frames, 0, 0.06 * speed, rng),
        y=smooth_walk(frames, 0, 0.03 * speed, rng),
        log_scale=smooth_walk(frames, 0, 0.05 * speed, rng),
        angle=smooth_walk(frames, 0, 0.03 * speed, rng),
        shear=np.zeros(frames, np.float32),
        stretch=np.zeros(frames, np.float32),
    )


def compose(outer: Floats, inner: Floats) -> Floats:
    """Return the map that applies `inner`, then `outer`, both `(T, 2, 3)`."""
    result = np.empty_like(inner)
    result[:, :, :2] = outer[:, :, :2] @ inner[:, :, :2]
    result[:, :, 2] = np.einsum("tij,tj->ti", outer[:, :, :2], inner[:, :, 2]) + outer[:, :, 2]
    return result


class ThinPlate:
    """Thin-plate deformations that change smoothly from frame to frame.

    A 4 × 4 grid of control points over [-1, 1]² moves at random. A thin-plate spline interpolates between them.

    Args:
        frames: number of frames T.
        amount: standard deviation of a control point's offset, in the same units.
        speed: how much of the offset changes between frames, 0..1.
    """

    def __init__(self, frames: int, amount: float, speed: float, rng: Rng) -> None:
        axis = np.linspace(-1, 1, 4, dtype=np.float32)
        self.points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        keep = 1 - speed
        offsets = [rng.normal(0, amount, self.points.shape)]
        for _ in range(frames - 1):
            offsets.append(keep * offsets[-1] + np.sqrt(1 - keep**2) * rng.normal(0, amount, self.points.shape))
        kernel = _radial(self.points, self.points) + 0.05 * np.eye(len(self.points), dtype=np.float32)
        polynomial = np.concatenate([np.ones((len(self.points), 1)), self.points], 1)
        system = np.block([[kernel, polynomial], [polynomial.T, np.zeros((3, 3))]])
        right = np.concatenate([np.stack(offsets), np.zeros((frames, 3, 2))], 1)
        self.weights = np.linalg.solve(system[None], right).astype(np.float32)

    def displace(self, frame: int, where: Floats) -> Floats:
        """Return displacements `(..., 2)` of points `(..., 2)` in one frame."""
        flat = np.clip(where.reshape(-1, 2), -1.5, 1.5)
        basis = np.concatenate([_radial(flat, self.points), np.ones((len(flat), 1), np.float32), flat], 1)
        return np.asarray(basis @ self.weights[frame], np.float32).reshape(where.shape)


def _radial(a: Floats, b: Floats) -> Floats:
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    return np.asarray(0.5 * squared * np.log(squared + 1e-9), np.float32)
