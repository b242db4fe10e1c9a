"""Where in a frame an object may be, and which pixels are taken for it at the beginning."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.extent import extent
from stm_fast.prompters.geodesic import distances
from stm_fast.prompters.hints import Box, Hints
from stm_fast.prompters.views import View

Mask = NDArray[np.bool_]

REACH, REACH_OF_FEW = 0.22, 0.5
"""How far an object reaches beyond the hull of three points or more, and of fewer, as a share of its longer side."""
MIN_REACH = 6
"""The same in pixels, at least."""
MARGIN, MIN_MARGIN = 0.6, 40
"""Width of the surroundings that show the background: a share of a region's longer side, and pixels at least."""
NEAR = 0.5
"""A pixel is taken for the object if its distance from the points is this share of the median outside."""
STEP = 0.5
MIN_KEPT = 0.1
"""Parts without a point of this share of the object's area stay; smaller ones are left out."""
_SHARES = 0.001, 0.3
"""Areas that an object with a single point may have, as shares of the frame."""
_GROWTH = 1.15


def _opencv() -> Any:
    import cv2

    return cv2


def allowed_region(image: NDArray[np.uint8], hints: Hints, max_side: int) -> Mask:
    """Return where the object may be `(H, W)`: in its boxes, or around its foreground points."""
    allowed = np.zeros(image.shape[:2], bool)
    for x0, y0, x1, y1 in hints.boxes:
        allowed[y0:y1, x0:x1] = True
    if hints.boxes:
        return allowed
    cv2 = _opencv()
    points = np.array(hints.foreground, np.int32)
    if len(points) == 1:
        allowed = _grown(image, hints, max_side)
        extent = float(allowed.sum()) ** 0.5
    else:
        hull = allowed.astype(np.uint8)
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
        allowed = hull > 0
        extent = float(np.ptp(points, axis=0).max())
    allowed[points[:, 1], points[:, 0]] = True
    return reached(allowed, (REACH if len(points) > 2 else REACH_OF_FEW) * extent + MIN_REACH)


def reached(mask: Mask, distance: float) -> Mask:
    """Return what is at most this many pixels away from a mask `(H, W)`."""
    outside = _opencv().distanceTransform((~mask).astype(np.uint8), _opencv().DIST_L2, 5)
    return np.asarray(outside <= distance)


def _grown(image: NDArray[np.uint8], hints: Hints, max_side: int) -> Mask:
    """Return what a single point grows to: the region whose area changes least with the distance that it reaches."""
    height, width = image.shape[:2]
    view = View.around(Box(0, 0, width, height), image, max_side)
    colours = colours_of(view.picture)
    seed, others = np.zeros((2, *colours.shape[:2]), bool)
    x, y = view.place(hints.foreground[0])
    seed[y, x] = True
    for point in hints.background:
        x, y = view.place(point)
        others[y, x] = True
    away = distances(colours, seed, STEP)
    if hints.background:
        away = np.where(distances(colours, others, STEP) < away, np.inf, away)
    ordered = np.sort(away, axis=None)
    low, high = (max(4, int(share * away.size)) for share in _SHARES)
    areas = np.unique(np.geomspace(low, high, 40).astype(int))
    reached = ordered[np.minimum(areas, ordered.size - 1)]
    with np.errstate(invalid="ignore"):
        growth = np.searchsorted(ordered, reached * _GROWTH) / areas
    growth[~np.isfinite(reached)] = np.inf
    return view.up(away <= reached[int(np.argmin(growth))])


def surroundings(mask: Mask) -> Box:
    """Return the box around a mask `(H, W)` and its surroundings, within the frame."""
    height, width = mask.shape
    rows, columns = extent(mask)
    margin = round(max(MIN_MARGIN, MARGIN * max(rows.stop - rows.start, columns.stop - columns.start)))
    return Box(
        max(0, columns.start - margin),
        max(0, rows.start - margin),
        min(width, columns.stop + margin),
        min(height, rows.stop + margin),
    )


def colours_of(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the Lab colours `(h, w, 3)` of an RGB picture, a little blurred."""
    cv2 = _opencv()
    blurred = cv2.GaussianBlur(picture, (0, 0), 1.0).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(blurred, cv2.COLOR_RGB2LAB))


def closest(colours: NDArray[np.float32], foreground: Mask, background: Mask, inside: Mask, boxed: bool) -> Mask:
    """Return the pixels that are taken for the object at the beginning.

    Args:
        colours: `(h, w, C)`.
        foreground: what points show of the object.
        background: what is known to be background.
        inside: where the object may be.
        boxed: whether a box shows where that is; everything in it is then taken for the object but what is closer to
            the background.
    """
    if boxed and not foreground.any():
        return distances(colours, background & inside, STEP) > distances(colours, background & ~inside, STEP)
    away = distances(colours, foreground, STEP)
    if boxed:
        return away < distances(colours, background & inside, STEP)
    near = inside & (away < NEAR * np.median(away[~inside])) if (~inside).any() else inside
    return near & (away < distances(colours, background & inside, STEP))


def kept(found: Mask, foreground: Mask) -> Mask:
    """Leave out parts of a mask that are small and hold no foreground point."""
    count, parts = _opencv().connectedComponents(found.astype(np.uint8))
    if count <= 2:
        return found
    areas = np.bincount(parts.ravel(), minlength=count)
    stays = areas >= MIN_KEPT * areas[1:].max()
    stays[np.unique(parts[foreground & found])] = True
    stays[0] = False
    return np.asarray(stays[parts])
