"""Clips of coloured shapes that move over noise. They need no files, and show whether a machine can train."""

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import StmFastError
from stm_fast.training.batch import Example
from stm_fast.training.sampling import Sampling
from stm_fast.training.sources.objects import choose_objects

SETS = ("train", "validation")
CLIPS = 100
"""Clips of an epoch."""
_MAX_SPEED = 0.06
"""Largest movement along x and y from one frame to the next, as a fraction of the frame's side."""
_RADII = (0.12, 0.25)
"""Range of half the height and half the width of a shape, as fractions of the frame's side."""


class ShapeSource:
    """Clips of ellipses and rectangles, each of one colour, that move straight on and hide one another.

    Args:
        subset: "train" or "validation", whose clips differ.

    Raises:
        StmFastError: there is no such set.
    """

    def __init__(self, subset: str) -> None:
        if subset not in SETS:
            raise StmFastError(f"set of the layout shapes must be one of {', '.join(SETS)}, got {subset!r}")
        self._set = SETS.index(subset)

    def __len__(self) -> int:
        return CLIPS

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        """Draw clip `index`; see `ClipSource`. It has from one to `max_objects` shapes."""
        rng = np.random.default_rng([self._set, index, int(rng.integers(2**32))])
        size = sampling.size
        frames = rng.integers(0, 96, (sampling.frames, size, size, 3), np.uint8)
        masks = np.zeros((sampling.frames, size, size), np.uint8)
        for number in range(1, 1 + int(rng.integers(1, sampling.max_objects + 1))):
            colour = rng.integers(96, 256, 3, np.uint8)
            power = rng.choice([2, 16])  # an ellipse, or nearly a rectangle
            middle, speed = rng.uniform(0.2, 0.8, 2), rng.uniform(-_MAX_SPEED, _MAX_SPEED, 2)
            radii = rng.uniform(*_RADII, 2)
            for time in range(sampling.frames):
                inside = _shape(size, middle + time * speed, radii, int(power))
                frames[time][inside], masks[time][inside] = colour, number
        return choose_objects(list(frames), list(masks), sampling.max_objects, rng)


def _shape(size: int, middle: NDArray[np.float64], radii: NDArray[np.float64], power: int) -> NDArray[np.bool_]:
    """Return where a shape is, `(size, size)`; lengths are fractions of `size`."""
    along = (np.arange(size) + 0.5) / size
    rows, columns = (np.abs((along - at) / radius) ** power for at, radius in zip(middle, radii, strict=True))
    inside: NDArray[np.bool_] = rows[:, None] + columns < 1
    return inside
