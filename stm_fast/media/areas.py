"""The colours of a mask, and which of its pixels are in flat areas."""

import numpy as np
from numpy.typing import NDArray

MAX_REGIONS = 32
"""Maximum number of colours outside the DAVIS palette that a mask may have, without the background."""
MAX_THIN = 8
"""More colours than that are the middle of a wide edge rather than thin things."""


def index_colours(picture: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the colour indices `(H, W)` of an RGB picture `(H, W, 3)`, and its colours `(K, 3)`, ascending."""
    packed = picture[..., 0].astype(np.int32)
    for channel in (1, 2):
        packed = packed << 8 | picture[..., channel]
    seen = np.zeros(1 << 24, bool)
    seen[packed] = True
    values = np.flatnonzero(seen)
    places = np.empty(1 << 24, np.int32)
    places[values] = np.arange(len(values), dtype=np.int32)
    return places[packed], np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.uint8)


def compact(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.intp]]:
    """Renumber labels `(H, W)` without gaps; return them and the old labels, ascending."""
    used = np.flatnonzero(np.bincount(labels.ravel()))
    places = np.zeros(used[-1] + 1, np.uint8 if len(used) <= 256 else np.int32)
    places[used] = np.arange(len(used))
    return places[labels], used


def is_scattered(labels: NDArray[np.integer], colours: int) -> bool:
    """Return whether labels with this number of colours are mostly outside flat areas."""
    return colours > MAX_THIN and bool(filled(labels).mean() < 0.5)


def is_picture(labels: NDArray[np.integer], colours: int) -> bool:
    """Return whether labels with this number of colours are a picture rather than a mask."""
    return colours > MAX_REGIONS + 1 or is_scattered(labels, colours)


def filled(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which pixels have the same label as all of the 3×3 pixels around them that are in the picture."""
    row = np.ones(labels.shape, bool)
    same = labels[:, 1:] == labels[:, :-1]
    row[:, 1:] &= same
    row[:, :-1] &= same
    square = row.copy()
    same = labels[1:] == labels[:-1]
    square[1:] &= same & row[:-1]
    square[:-1] &= same & row[1:]
    return square
