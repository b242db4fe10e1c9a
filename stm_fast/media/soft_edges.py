"""Soft edges: pixels that blend the colours of regions are given to one of them."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

MAX_REGIONS = 32
MAX_SOFT = 0.25
"""Part of a picture that soft edges may fill."""
REACHES = (4, 16, 64)
"""How far, in pixels, a blend may be from the colours it blends: narrow edges first, then wide ones."""
MAX_THIN = 8
"""More colours than that are the middle of a wide edge rather than thin things."""
MAX_UNEXPLAINED = 0.02
"""Part of a picture that may be of rare colours which are no blends."""
MIN_FILLED = 0.2
"""Part of a region's pixels that lie in squares of its colour, where colours are many."""
ON_LINE = 16
CLOSE = 8
_FLAT, _SPREAD, _APART = 24, 16, 40
"""Differences that JPEG leaves in a flat area, that it makes of one colour, and that tell two colours apart."""


def index_colours(picture: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The colours of a picture, RGB `(H, W, 3)`, ascending as `(K, 3)`, and their indices `(H, W)`."""
    packed = picture[..., 0].astype(np.int32)
    for channel in (1, 2):
        packed = packed << 8 | picture[..., channel]
    seen = np.zeros(1 << 24, bool)
    seen[packed] = True
    values = np.flatnonzero(seen)
    places = np.empty(1 << 24, np.int32)
    places[values] = np.arange(len(values), dtype=np.int32)
    return places[packed], np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.uint8)


def harden(
    labels: NDArray[np.integer], colours: NDArray[np.uint8], regions: Sequence[int] = ()
) -> NDArray[np.integer] | None:
    """Give pixels of soft edges to the regions beside them.

    The colour of a region fills a square of 3×3 pixels somewhere. Any other colour is a blend if nearly all its pixels
    lie near two regions and have a colour between theirs. Colours that are neither, such as those of thin lines, are
    regions as well; but of more colours than a mask has, those that are rare go to the regions nearby.

    Args:
        labels: indices of colours `(H, W)`.
        colours: RGB `(K, 3)`.
        regions: colours that are regions in any case.

    Returns:
        labels `(H, W)` with no blends; None if nothing is a blend, or if too much is for a mask.
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
        distances = _distances(colours, colours[region]).min(1, initial=np.inf)
        region[np.argmax(np.where(thin, distances, -1))] = True  # what is far first: thin things have soft edges too
        if region.sum() > MAX_REGIONS:
            return None
        blends = (_blends(labels, colours, region, REACHES[0]) | blends) & ~region
        left = ~region & ~blends
    if not blends.any() or counts[left].sum() > MAX_UNEXPLAINED * labels.size:
        return None
    return _to_nearest(labels, colours, region, reach)


def flatten(picture: NDArray[np.uint8]) -> tuple[NDArray[np.integer], NDArray[np.uint8]] | None:
    """Find the few colours of a picture whose flat areas are noisy, as JPEG leaves them.

    Args:
        picture: RGB `(H, W, 3)`.

    Returns:
        labels `(H, W)` and the colours `(K, 3)` they stand for, the most frequent first; None if it is no mask.
    """
    flat = _is_flat(picture)
    labels, values = index_colours(picture)
    areas = np.bincount(labels[flat], minlength=len(values))
    if areas.sum() < 0.6 * flat.size:
        return None
    bins = (values >> 3).astype(np.int32) @ np.array([1 << 10, 1 << 5, 1], np.int32)
    counts = np.bincount(bins, areas, 1 << 15)
    centres = np.stack(np.unravel_index(np.arange(1 << 15), (32, 32, 32)), 1) * 8 + 4
    least = max(9, flat.size // 2000)
    found: list[int] = []
    while counts.max() >= least:
        if len(found) == MAX_REGIONS:
            return None
        found.append(int(np.argmax(np.where(bins == counts.argmax(), areas, -1))))
        counts[np.abs(centres - values[found[-1]]).max(1) < _APART] = 0
    colours = values[found]
    if not found or areas[_apart(values, colours).min(1) <= _SPREAD].sum() < 0.95 * areas.sum():
        return None
    table = np.concatenate([values, colours])
    nearest = len(values) + _distances(values, colours).argmin(1)
    regions = np.arange(len(table)) >= len(values)
    return _to_nearest(np.where(flat, nearest[labels], labels), table, regions, REACHES[0]) - len(values), colours


def is_picture(labels: NDArray[np.integer], colours: int) -> bool:
    """Whether labels of so many colours are a picture rather than a mask, in which most pixels lie in flat areas."""
    return colours > MAX_REGIONS + 1 or (colours > MAX_THIN and bool(filled(labels).mean() < 0.5))


def filled(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether the 3×3 pixels around a pixel, as far as they lie in the picture, are all of its label."""
    row = np.ones(labels.shape, bool)
    same = labels[:, 1:] == labels[:, :-1]
    row[:, 1:] &= same
    row[:, :-1] &= same
    square = row.copy()
    same = labels[1:] == labels[:-1]
    square[1:] &= same & row[:-1]
    square[:-1] &= same & row[1:]
    return square


def _is_rich(colours: NDArray[np.uint8]) -> bool:
    """Whether there are more colours than a mask has, so that some must be of soft edges."""
    return len(colours) > MAX_REGIONS + 1


def _region_colours(
    labels: NDArray[np.integer], colours: NDArray[np.uint8], counts: NDArray[np.integer], regions: Sequence[int]
) -> NDArray[np.bool_]:
    """Which colours fill a square, `(K,)`."""
    areas = np.bincount(labels[filled(labels)], minlength=len(colours))
    region: NDArray[np.bool_] = areas > 0
    if _is_rich(colours):  # wide edges have flat places too, but small ones, and ends close to what fills much more
        region &= areas >= MIN_FILLED * counts
        for index in np.flatnonzero(region):
            close = _apart(colours, colours[index : index + 1])[:, 0] <= CLOSE
            region[index] = areas[close].max() < 10 * areas[index]
    region[list(regions)] = True
    return region


def _blends(
    labels: NDArray[np.integer], colours: NDArray[np.uint8], region: NDArray[np.bool_], reach: int
) -> NDArray[np.bool_]:
    """Which colours lie between those of regions nearby, in at least four of five of their pixels, `(K,)`."""
    soft = ~region[labels]
    here = labels[soft]
    indices = np.flatnonzero(region)
    near = _near(labels, indices, soft, reach)
    explained = np.zeros(len(here), bool)
    for first, second in combinations(range(len(indices)), 2):
        both = near[first] & near[second]
        if both.any():
            explained |= both & _between(colours, colours[indices[first]], colours[indices[second]])[here]
    meeting = np.flatnonzero(~explained & (near.sum(0) > 2))  # where three regions meet
    around, its = colours[indices].astype(np.int16)[:, None], colours[here[meeting]].astype(np.int16)
    low = np.where(near[:, meeting, None], around, 255).min(0, initial=255)
    high = np.where(near[:, meeting, None], around, 0).max(0, initial=0)
    explained[meeting] = ((its >= low - CLOSE) & (its <= high + CLOSE)).all(1)
    if _is_rich(colours):  # sharpened edges overshoot
        for place, index in enumerate(indices):
            similar = _apart(colours, colours[index : index + 1])[:, 0] < _APART
            explained |= near[place] & similar[here]
    counts = np.bincount(here, minlength=len(colours))
    return ~region & (np.bincount(here, explained, len(colours)) >= 0.8 * counts)


def _between(colours: NDArray[np.uint8], first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which colours blend two others, as they are stored or in linear light."""
    found = np.zeros(len(colours), bool)
    for gamma in (1.0, 2.2):
        points, start, end = (255 * (each / 255.0) ** gamma for each in (colours, first, second))
        way = end - start
        along = np.clip((points - start) @ way / max(float(way @ way), 1e-9), 0, 1)
        found |= np.abs(points - start - along[:, None] * way).max(1) <= ON_LINE
    return found


def _to_nearest(
    labels: NDArray[np.integer], colours: NDArray[np.uint8], region: NDArray[np.bool_], reach: int
) -> NDArray[np.integer]:
    """Labels in which all pixels are of regions: that of the nearest colour among those nearby, if any are."""
    soft = ~region[labels]
    here = labels[soft]
    indices = np.flatnonzero(region)
    near = _near(labels, indices, soft, reach)
    near[:, ~near.any(0)] = True
    distances = _distances(colours, colours[indices])
    best, least = np.zeros(len(here), np.intp), np.full(len(here), np.inf)
    for place, index in enumerate(indices):
        distance = np.where(near[place], distances[here, place], np.inf)
        best[distance < least] = index
        least = np.minimum(least, distance)
    result = labels.copy()
    result[soft] = best
    return result


def _near(
    labels: NDArray[np.integer], indices: NDArray[np.intp], where: NDArray[np.bool_], reach: int
) -> NDArray[np.bool_]:
    """Whether each label is within some rows and columns of each pixel of `where`, `(labels, pixels)`."""
    near = np.zeros((len(indices), int(where.sum())), bool)
    for place, index in enumerate(indices):
        near[place] = _grown(labels == index, reach)[where]
    return near


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """True within `reach` rows and columns of what is True, by shifts that double."""
    grown = mask.copy()
    for axis, size in enumerate(mask.shape):
        done, wanted = 0, min(reach, size - 1)
        while done < wanted:
            shift = min(done + 1, wanted - done)
            before = grown.copy()
            late = (slice(None),) * axis + (slice(shift, None),)
            early = (slice(None),) * axis + (slice(None, -shift),)
            grown[late] |= before[early]
            grown[early] |= before[late]
            done += shift
    return grown


def _distances(colours: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Squared distances `(K, M)`."""
    differences = colours[:, None].astype(np.float32) - others[None].astype(np.float32)
    return np.asarray((differences**2).sum(2), np.float32)


def _apart(colours: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Greatest differences of a channel `(K, M)`."""
    differences = np.abs(colours[:, None].astype(np.int16) - others[None].astype(np.int16))
    return np.asarray(differences.max(2), np.int16)


def _is_flat(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether no channel changes by more than JPEG's noise in the 3×3 pixels around a pixel."""
    low = high = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    low = np.minimum(np.minimum(low[:-2], low[1:-1]), low[2:])
    low = np.minimum(np.minimum(low[:, :-2], low[:, 1:-1]), low[:, 2:])
    high = np.maximum(np.maximum(high[:-2], high[1:-1]), high[2:])
    high = np.maximum(np.maximum(high[:, :-2], high[:, 1:-1]), high[:, 2:])
    return np.asarray((high - low).max(2) <= _FLAT)
