"""Affine maps of pictures. Rotation, shear, zoom, translation and crop make one matrix, which is applied once."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stm_fast.training.augment.opencv import opencv

Picture: TypeAlias = NDArray[np.uint8]
"""A frame `(H, W, 3)` in RGB or a mask `(H, W)` of ids."""

Matrix: TypeAlias = NDArray[np.float64]
"""`(3, 3)`, takes a point `(x, y, 1)` of a picture to its place in a frame; pixel centres have whole coordinates."""

Colour: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Motion:
    """Ranges of a random affine map; the default map changes nothing.

    Attributes:
        rotation: largest angle in degrees, either way.
        shear: largest shear along x in degrees, either way.
        zoom: smallest and largest factor of both sides.
        shift: largest translation along x and y, as a fraction of the frame's side, either way.
    """

    rotation: float = 0.0
    shear: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0

    def draw(self, rng: np.random.Generator, centre: tuple[float, float], side: float) -> Matrix:
        """Draw a map of a frame of `side` pixels that turns, shears and zooms about `centre`, an x and a y."""
        angle, shear = np.radians(rng.uniform(-1, 1, 2) * (self.rotation, self.shear))
        zoom = rng.uniform(*self.zoom)
        shift = rng.uniform(-1, 1, 2) * self.shift * side
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = zoom * turn @ np.array([[1, np.tan(shear)], [0, 1]])
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = shift + centre - linear @ centre
        return matrix


def crop(left: float, top: float, width: float, height: float, size: int) -> Matrix:
    """Return the map from a rectangle of a picture to a frame of `size` by `size` pixels.

    Args:
        left: distance of the rectangle from the left edge of the picture, in pixels; likewise `top`.
        top: see `left`.
        width: width of the rectangle in pixels; likewise `height`.
        height: see `width`.
        size: side of the frame in pixels.
    """
    x, y = size / width, size / height
    return np.array([[x, 0, (0.5 - left) * x - 0.5], [0, y, (0.5 - top) * y - 0.5], [0, 0, 1]])


def flip(width: int) -> Matrix:
    """Return the map that flips a picture of `width` pixels left to right."""
    return np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])


def centre(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the x and y of the centre of a picture of shape `(H, W, ...)`."""
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def shrink(frame: Picture, mask: Picture, side: int) -> tuple[Picture, Picture]:
    """Shrink a frame by averaging, and its mask, if the shorter side is longer than `side` pixels.

    Linear interpolation skips pixels where it shrinks by more than half. Large pictures are shrunk first.
    """
    shorter = min(mask.shape)
    if shorter <= side:
        return frame, mask
    cv2 = opencv()
    height, width = (max(side, round(length * side / shorter)) for length in mask.shape)
    small: Picture = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return small, cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
