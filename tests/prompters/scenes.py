"""Pictures of discs on a textured ground, with their masks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stm_fast.prompters import Box, Point

HEIGHT, WIDTH = 120, 200
RED, BLUE, GROUND = (200, 40, 40), (40, 60, 200), (90, 140, 80)


class Disc(NamedTuple):
    x: int
    y: int
    radius: int
    colour: tuple[int, int, int] = RED

    @property
    def centre(self) -> Point:
        return Point(self.x, self.y)

    @property
    def box(self) -> Box:
        return Box(self.x - self.radius, self.y - self.radius, self.x + self.radius + 1, self.y + self.radius + 1)

    @property
    def mask(self) -> NDArray[np.bool_]:
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        return (columns - self.x) ** 2 + (rows - self.y) ** 2 <= self.radius**2


def scene(*discs: Disc) -> NDArray[np.uint8]:
    """Draw discs, the last one on top, in noise of a fixed seed."""
    picture = np.full((HEIGHT, WIDTH, 3), GROUND, float)
    for disc in discs:
        picture[disc.mask] = disc.colour
    picture += np.random.default_rng(0).normal(0, 12, picture.shape)
    return picture.clip(0, 255).astype(np.uint8)


def overlap(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    """Return J."""
    return float((found & wanted).sum() / (found | wanted).sum())
