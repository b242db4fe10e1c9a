"""Random crops: which part of a picture a frame shows."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stm_fast.training.augment.affine import Matrix, crop
from stm_fast.training.sampling import Sampling

_ATTEMPTS = 10


class Crop(Protocol):
    """A way to choose the part of a picture that becomes a frame."""

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, int], point: tuple[float, float], sampling: Sampling
    ) -> Matrix:
        """Draw the map from a picture to a frame of `sampling.size`.

        Args:
            rng: source of randomness.
            shape: height and width of the picture.
            point: x and y of a pixel of an object, which a crop may have to contain.
            sampling: size of the frame and of the smallest crop.
        """


@dataclass(frozen=True)
class SquareCrop:
    """A square that contains the given point, at a random place.

    Attributes:
        smallest: side of the smallest square as a fraction of the picture's shorter side, which is that of the largest;
            None for the sampling's `smallest_crop`.
    """

    smallest: float | None = None

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, int], point: tuple[float, float], sampling: Sampling
    ) -> Matrix:
        """Draw the map from a picture to a frame; see `Crop`."""
        smallest = sampling.smallest_crop if self.smallest is None else self.smallest
        side = max(1.0, min(shape) * rng.uniform(smallest, 1))
        left, top = (_start(rng, at, length, side) for at, length in zip(point, shape[::-1], strict=True))
        return crop(left, top, side, side, sampling.size)


@dataclass(frozen=True)
class ResizedCrop:
    """A rectangle of random area and shape, stretched to a square, as torchvision's `RandomResizedCrop`.

    It need not contain the given point. If ten rectangles do not fit into the picture, the largest one in its middle
    that has an allowed shape is taken.

    Attributes:
        area: smallest and largest area as fractions of the picture's.
        ratio: smallest and largest ratio of width to height.
    """

    area: tuple[float, float]
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, int], point: tuple[float, float], sampling: Sampling
    ) -> Matrix:
        """Draw the map from a picture to a frame; see `Crop`."""
        height, width = shape
        for _ in range(_ATTEMPTS):
            area = height * width * rng.uniform(*self.area)
            ratio = np.exp(rng.uniform(*np.log(self.ratio)))
            wide, high = np.sqrt(area * ratio), np.sqrt(area / ratio)
            if wide <= width and high <= height:
                return crop(rng.uniform(0, width - wide), rng.uniform(0, height - high), wide, high, sampling.size)
        ratio = np.clip(width / height, *self.ratio)
        wide, high = min(width, height * ratio), min(height, width / ratio)
        return crop((width - wide) / 2, (height - high) / 2, wide, high, sampling.size)


def _start(rng: np.random.Generator, at: float, length: int, side: float) -> float:
    """Draw where a stretch of `side` of `length` pixels starts that contains the pixel `at`."""
    low = max(0.0, at + 1 - side)
    return rng.uniform(low, max(low, min(at, length - side)))
