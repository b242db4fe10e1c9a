"""Flat colours that JPEG has made noisy."""

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.areas import MAX_REGIONS, index_colours
from stm_fast.media.nearest import channel_distances, distances, to_nearest

_REACH = 4
"""How far, in pixels, a noisy pixel may be from the flat area that it is given to."""
_FLAT, _SPREAD, _APART = 24, 16, 40
"""Differences in a channel: within a flat area of a JPEG, between pixels of one colour, and between two colours."""


def flatten(picture: NDArray[np.uint8]) -> tuple[NDArray[np.integer], NDArray[np.uint8]] | None:
    """Find the few colours of a picture whose flat areas are noisy, as JPEG leaves them.

    Args:
        picture: RGB `(H, W, 3)`.

    Returns:
        Labels `(H, W)` and their colours `(K, 3)`, the most frequent first; None if the picture is not a mask.
    """
    flat = _is_flat(picture)
    labels, values = index_colours(picture)
    areas = np.bincount(labels[flat], minlength=len(values))
    if areas.sum() < 0.6 * flat.size:
        return None
    bins = (values >> 3).astype(np.int32) @ np.array([1 << 10, 1 << 5, 1], np.int32)
    counts = np.bincount(bins, areas, 1 << 15)
    centres = np.stack(np.unravel_index(np.arange(1 << 15), (32, 32, 32)), 1) * 8 + 4
    min_area = max(9, flat.size // 2000)
    found: list[int] = []
    while counts.max() >= min_area:
        if len(found) == MAX_REGIONS:
            return None
        found.append(int(np.argmax(np.where(bins == counts.argmax(), areas, -1))))
        counts[np.abs(centres - values[found[-1]]).max(1) < _APART] = 0
    colours = values[found]
    if not found or areas[channel_distances(values, colours).min(1) <= _SPREAD].sum() < 0.95 * areas.sum():
        return None
    table = np.concatenate([values, colours])
    nearest = len(values) + distances(values, colours).argmin(1)
    regions = np.arange(len(table)) >= len(values)
    return to_nearest(np.where(flat, nearest[labels], labels), table, regions, _REACH) - len(values), colours


def _is_flat(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where no channel changes by more than JPEG's noise within the 3×3 pixels around a pixel."""
    low = high = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    low = np.minimum(np.minimum(low[:-2], low[1:-1]), low[2:])
    low = np.minimum(np.minimum(low[:, :-2], low[:, 1:-1]), low[:, 2:])
    high = np.maximum(np.maximum(high[:-2], high[1:-1]), high[2:])
    high = np.maximum(np.maximum(high[:, :-2], high[:, 1:-1]), high[:, 2:])
    return np.asarray((high - low).max(2) <= _FLAT)
