"""Random bends of frames by thin-plate splines."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stm_fast.training.augment.opencv import opencv

Displacement: TypeAlias = NDArray[np.float32]
"""`(S, S, 2)`: how far from each pixel of a bent frame the straight frame shows the same, in x and y, in pixels."""

_STEPS = 33
_SMOOTHING = 0.01


@dataclass(frozen=True)
class Bend:
    """A thin-plate spline through control points at random places of a frame, each of which moves at random.

    The spline is smoothed, so that points that are close together and move apart do not fold the frame.

    Attributes:
        probability: of a bend, for each frame.
        amount: standard deviation of a point's movement along x and y, as a fraction of the frame's side.
        points: number of control points.
    """

    probability: float = 0.0
    amount: float = 0.02
    points: int = 12

    def draw(self, rng: np.random.Generator, size: int) -> Displacement | None:
        """Draw the bend of a frame of `size` by `size` pixels; None leaves it straight."""
        if rng.random() >= self.probability:
            return None
        points = rng.uniform(0, 1, (self.points, 2))
        moves = rng.normal(0, self.amount, (self.points, 2))
        affine = np.column_stack([np.ones(self.points), points])
        kernel = _radial(points, points) + _SMOOTHING * np.eye(self.points)
        system = np.block([[kernel, affine], [affine.T, np.zeros((3, 3))]])
        weights = np.linalg.solve(system, np.concatenate([moves, np.zeros((3, 2))]))
        axis = np.linspace(0, 1, _STEPS)
        where = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        coarse = np.column_stack([_radial(where, points), np.ones(len(where)), where]) @ weights
        field = (size * coarse).astype(np.float32).reshape(_STEPS, _STEPS, 2)
        bend: Displacement = opencv().resize(field, (size, size), interpolation=opencv().INTER_LINEAR)
        return bend


def _radial(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    found: NDArray[np.float64] = squared * np.log(squared + 1e-12)
    return found
