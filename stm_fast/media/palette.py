"""The DAVIS palette, which gives the object ids of masks on disk their colours."""

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

MAX_INDEX = 255
"""The largest index of a palette, and so the largest object id in a mask file."""
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)


def _davis_palette() -> NDArray[np.uint8]:
    """The bits of an id, three at a time from the lowest, are the highest bits of red, green and blue."""
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> channel & 1) << (7 - bit)).astype(np.uint8)
        ids >>= 3
    return palette


DAVIS_PALETTE = _davis_palette()
DAVIS_IDS: dict[Colour, int] = {(int(r), int(g), int(b)): i for i, (r, g, b) in enumerate(DAVIS_PALETTE)}


def as_colours(table: NDArray[np.uint8]) -> list[Colour]:
    """Return the rows of a table `(K, 3)` as tuples."""
    return [(int(r), int(g), int(b)) for r, g, b in table]
