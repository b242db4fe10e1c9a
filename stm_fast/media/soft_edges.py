"""Soft edges: give pixels that blend the colours of two regions to one of them."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.areas import MAX_REGIONS, MAX_THIN, filled
from stm_fast.media.nearest import channel_distances, distances, near, to_nearest

MAX_SOFT = 0.25
"""Part of a picture that soft edges may fill."""
REACHES = (4, 16, 64)
"""How far a blend may be from the colours it blends, in pixels: narrow edges first, then wide ones."""
MAX_UNEXPLAINED = 0.02
"""Part of a picture that may have rare colours that are not blends."""
MIN_FILLED = 0.2
"""Part of a region's pixels that must be in squares of its colour, if there are many colours."""
ON_LINE = 16
CLOSE = 8
_SIMILAR = 40
"""Difference of a channel below which a colour may be that of a sharpened edge."""


def harden(
    labels: NDArray[np.integer], colours: NDArray[np.uint8], regions: Sequence[int] = ()
) -> NDArray[np.integer] | None:
    """Give pixels of soft edges to the regions beside them.

    The colour of a region fills a square of 3×3 pixels somewhere. Any other colour is a blend if nearly all its pixels
    lie near two regions and have a colour between theirs. Colours that are neither, such as those of thin lines, are
    regions too; but if there are more colours than a mask has, rare ones go to regions nearby.

    Args:
        labels: indices of colours `(H, W)`.
        colours: RGB `(K, 3)`.
        regions: colours that are regions in any case.

    Returns:
        Labels `(H, W)` without blends; None if nothing is a blend, or more than a mask can have.
    """
    if len(colours) < 3:
        return None
    counts = np.bincount(labels.ravel(), minlength=len(colours))
    region = _region_colours(labels, colours, counts, regions)
    soft = counts[~region].sum()
    if not soft or region.sum() > MAX_REGIONS or soft > MAX_SOFT * labels.size:
        return None
    rich = _is_rich(colours)
    for reach in REACHES:
        blends = _blends(labels, colours, region, reach)
        left = ~region & ~blends
        if counts[left].sum() <= 0.02 * soft or (reach == REACHES[0] and not rich and left.sum() <= MAX_THIN):
            break
    while (thin := left & (counts >= max(16, 0.02 * soft) if rich else left)).any():
        apart = distances(colours, colours[region]).min(1, initial=np.inf)
        region[np.argmax(np.where(thin, apart, -1))] = True  # the farthest first, since thin things have soft edges too
        if region.sum() > MAX_REGIONS:
            return None
        blends = (_blends(labels, colours, region, REACHES[0]) | blends) & ~region
        left = ~region & ~blends
    if not blends.any() or counts[left].sum() > MAX_UNEXPLAINED * labels.size:
        return None
    return to_nearest(labels, colours, region, reach)


def _is_rich(colours: NDArray[np.uint8]) -> bool:
    """Return whether there are more colours than a mask has, so that some must belong to soft edges."""
    return len(colours) > MAX_REGIONS + 1


def _region_colours(
    labels: NDArray[np.integer], colours: NDArray[np.uint8], counts: NDArray[np.integer], regions: Sequence[int]
) -> NDArray[np.bool_]:
    """Return which colours fill a square, `(K,)`."""
    areas = np.bincount(labels[filled(labels)], minlength=len(colours))
    region: NDArray[np.bool_] = areas > 0
    if _is_rich(colours):  # wide edges have flat places too, but small ones, and ends close to what fills much more
        region &= areas >= MIN_FILLED * counts
        for index in np.flatnonzero(region):
            close = channel_distances(colours, colours[index : index + 1])[:, 0] <= CLOSE
            region[index] = areas[close].max() < 10 * areas[index]
    region[list(regions)] = True
    return region


def _blends(
    labels: NDArray[np.integer], colours: NDArray[np.uint8], region: NDArray[np.bool_], reach: int
) -> NDArray[np.bool_]:
    """Return which colours lie between those of regions nearby, in at least four fifths of their pixels, `(K,)`."""
    soft = ~region[labels]
    here = labels[soft]
    indices = np.flatnonzero(region)
    beside = near(labels, indices, soft, reach)
    explained = np.zeros(len(here), bool)
    for first, second in combinations(range(len(indices)), 2):
        both = beside[first] & beside[second]
        if both.any():
            explained |= both & _between(colours, colours[indices[first]], colours[indices[second]])[here]
    meeting = np.flatnonzero(~explained & (beside.sum(0) > 2))  # where three regions meet
    around, its = colours[indices].astype(np.int16)[:, None], colours[here[meeting]].astype(np.int16)
    low = np.where(beside[:, meeting, None], around, 255).min(0, initial=255)
    high = np.where(beside[:, meeting, None], around, 0).max(0, initial=0)
    explained[meeting] = ((its >= low - CLOSE) & (its <= high + CLOSE)).all(1)
    if _is_rich(colours):  # sharpened edges overshoot
        for place, index in enumerate(indices):
            similar = channel_distances(colours, colours[index : index + 1])[:, 0] < _SIMILAR
            explained |= beside[place] & similar[here]
    counts = np.bincount(here, minlength=len(colours))
    return ~region & (np.bincount(here, explained, len(colours)) >= 0.8 * counts)


def _between(colours: NDArray[np.uint8], first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which colours blend two others, as they are stored or in linear light."""
    found = np.zeros(len(colours), bool)
    for gamma in (1.0, 2.2):
        points, start, end = (255 * (each / 255.0) ** gamma for each in (colours, first, second))
        way = end - start
        along = np.clip((points - start) @ way / max(float(way @ way), 1e-9), 0, 1)
        found |= np.abs(points - start - along[:, None] * way).max(1) <= ON_LINE
    return found
