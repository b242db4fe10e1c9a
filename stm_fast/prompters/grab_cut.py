"""GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004) from boxes and points; needs OpenCV and no weights.

Colours alone decide, so that the work is where to look: what surely is no part of the object, what surely is, and what
each pixel in between is taken for at the beginning. A small picture settles the shape, and a larger one the outline.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import ArgumentError
from stm_fast.prompters.geodesic import distances
from stm_fast.prompters.hints import Hints, Point
from stm_fast.prompters.region import allowed_region, closest, colours_of, kept, reached, surroundings
from stm_fast.prompters.views import View

Mask = NDArray[np.bool_]

SHAPE_SIDE, OUTLINE_SIDE = 320, 960
"""Longer sides, in pixels, of the pictures that settle the shape and the outline."""
SHAPE_ITERATIONS, CORRECTION_ITERATIONS, OUTLINE_ITERATIONS = 5, 3, 1
MIN_SHARE = 0.1
"""If less than this share of where the object may be becomes the object, its middle is made sure of."""
CORE = 0.5
"""Size of that middle, as a share of a box."""
SEED = 0.012
"""Radius of what a point shows, as a share of a picture's longer side."""
EXTENSIONS, EXTENSION = 3, 0.1
"""How often an object without a box may reach beyond what was found, and how far, as a share of its extent."""
CORRECTED = 0.25
"""Least radius of what a correcting point may change, as a share of the root of the object's area."""
BAND = 1.5
"""Half of the width of the outline that is settled anew, in pixels of the small picture."""
_SEED_OF_RANDOM_NUMBERS = 1
_LEAST_PIXELS = 8


class GrabCutPrompter:
    """Segments an object by its colours; see `stm_fast.prompters.registry.Prompter`.

    A box is best tight: colours around it, inside the picture, are taken for the background. Without a box, the object
    is looked for around its foreground points, so that points at its ends show how large it is. With a mask, each point
    that contradicts the mask changes it near itself.

    The result is the same in each run: OpenCV's random numbers of this thread are seeded anew in each call.

    Raises:
        ArgumentError: OpenCV is not installed.
    """

    def __init__(self) -> None:
        self._cv2 = import_opencv()

    def __call__(self, image: NDArray[np.uint8], hints: Hints, mask: Mask | None = None) -> Mask:
        """Segment an object; see `stm_fast.prompters.registry.Prompter`."""
        if mask is None or not mask.any():
            return self._first(image, hints)
        wrong = [p for p in hints.foreground if not mask[p.y, p.x]] + [p for p in hints.background if mask[p.y, p.x]]
        return self._corrected(image, hints, mask, wrong) if wrong else mask.copy()

    def _first(self, image: NDArray[np.uint8], hints: Hints) -> Mask:
        allowed = allowed_region(image, hints, SHAPE_SIDE)
        view, found = self._shape(image, hints, allowed)
        for _ in range(0 if hints.boxes else EXTENSIONS):
            extent = float(max(np.ptp(np.argwhere(allowed), axis=0)))
            allowed = reached(view.up(found), EXTENSION * extent)
            view, found = self._shape(image, hints, allowed, view.up(found))
        return self._outlined(image, view, found, hints, allowed)

    def _shape(
        self, image: NDArray[np.uint8], hints: Hints, allowed: Mask, before: Mask | None = None
    ) -> tuple[View, Mask]:
        """Return a small picture, and what is the object in it; begin with a mask `(H, W)` if there is one."""
        view = View.around(surroundings(allowed), image, SHAPE_SIDE)
        inside = view.down(allowed)
        foreground, background = self._seeds(view, hints)
        labels = np.where(inside, self._cv2.GC_PR_FGD, self._cv2.GC_BGD).astype(np.uint8)
        if before is not None:
            labels[inside & ~view.down(before)] = self._cv2.GC_PR_BGD
        elif hints.background or not hints.boxes:
            near = closest(colours_of(view.picture), foreground, background | ~inside, inside, bool(hints.boxes))
            labels[inside & ~near] = self._cv2.GC_PR_BGD
        self._put_seeds(labels, foreground, background)
        found = self._cut(view.picture, labels.copy(), SHAPE_ITERATIONS)
        if found.sum() < MIN_SHARE * inside.sum():
            labels[self._core(view, hints) & inside & ~background] = self._cv2.GC_FGD
            found = self._cut(view.picture, labels, SHAPE_ITERATIONS)
        return view, kept(found, foreground)

    def _corrected(self, image: NDArray[np.uint8], hints: Hints, mask: Mask, wrong: list[Point]) -> Mask:
        """Change a mask near the points that contradict it."""
        cv2 = self._cv2
        inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
        open_ = np.zeros(mask.shape, np.uint8)
        for x, y in wrong:
            radius = max(CORRECTED * float(mask.sum()) ** 0.5, 1.5 * float(max(inside[y, x], outside[y, x])))
            cv2.circle(open_, (x, y), round(radius), 1, cv2.FILLED)
        view = View.around(surroundings(mask | (open_ > 0)), image, SHAPE_SIDE)
        near, was = view.down(open_ > 0), view.down(mask)
        foreground, background = self._seeds(view, hints)
        colours = colours_of(view.picture)
        nearer = distances(colours, foreground | (was & ~near), 1.0) < distances(
            colours, background | (~was & ~near), 1.0
        )
        labels = np.where(was, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
        labels[near] = np.where(nearer, cv2.GC_PR_FGD, cv2.GC_PR_BGD)[near]
        self._put_seeds(labels, foreground, background)
        found = self._cut(view.picture, labels, CORRECTION_ITERATIONS)
        changed = self._outlined(image, view, found, hints, np.ones_like(mask))
        return np.where(open_ > 0, changed, mask)

    def _outlined(self, image: NDArray[np.uint8], small: View, found: Mask, hints: Hints, allowed: Mask) -> Mask:
        """Settle the outline of a mask of the small picture in a larger one."""
        cv2 = self._cv2
        if not found.any() or small.scale >= 1:
            return small.up(found) & allowed
        rough = small.up(found) & allowed
        view = View.around(surroundings(rough), image, OUTLINE_SIDE)
        now = view.down(rough)
        width = 2 * max(1, round(BAND * view.scale / small.scale)) + 1
        kernel = np.ones((width, width), np.uint8)
        labels = np.where(now, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels[cv2.erode(now.astype(np.uint8), kernel) > 0] = cv2.GC_FGD
        labels[cv2.dilate(now.astype(np.uint8), kernel) == 0] = cv2.GC_BGD
        self._put_seeds(labels, *self._seeds(view, hints))
        return view.up(self._cut(view.picture, labels, OUTLINE_ITERATIONS)) & allowed

    def _seeds(self, view: View, hints: Hints) -> tuple[Mask, Mask]:
        """Return the pixels of a picture that foreground and background points show."""
        radius = max(1, round(SEED * max(view.picture.shape[:2])))
        drawn = []
        for points in (hints.foreground, hints.background):
            seeds = np.zeros(view.picture.shape[:2], np.uint8)
            for point in points:
                self._cv2.circle(seeds, view.place(point), radius, 1, self._cv2.FILLED)
            drawn.append(seeds > 0)
        foreground, background = drawn
        for point in hints.foreground:
            x, y = view.place(point)
            background[y, x] = False
        return foreground & ~background, background

    def _put_seeds(self, labels: NDArray[np.uint8], foreground: Mask, background: Mask) -> None:
        labels[foreground] = self._cv2.GC_FGD
        labels[background] = self._cv2.GC_BGD

    def _core(self, view: View, hints: Hints) -> Mask:
        """Return the middle of each box, or the lines between the foreground points."""
        core = np.zeros(view.picture.shape[:2], np.uint8)
        for box in hints.boxes:
            left, top = view.place(Point(box.x0, box.y0))
            right, bottom = view.place(Point(box.x1 - 1, box.y1 - 1))
            axes = (round((right - left) * CORE / 2), round((bottom - top) * CORE / 2))
            self._cv2.ellipse(core, ((left + right) // 2, (top + bottom) // 2), axes, 0, 0, 360, 1, self._cv2.FILLED)
        if not hints.boxes:
            first = view.place(hints.foreground[0])
            for point in hints.foreground[1:]:
                self._cv2.line(core, first, view.place(point), 1, 3)
        return core > 0

    def _cut(self, picture: NDArray[np.uint8], labels: NDArray[np.uint8], iterations: int) -> Mask:
        """Run GrabCut on labels, in place, and return what is foreground."""
        foreground = np.equal(labels % 2, 1)
        if min(foreground.sum(), (~foreground).sum()) < _LEAST_PIXELS:
            return np.asarray(foreground)
        self._cv2.setRNGSeed(_SEED_OF_RANDOM_NUMBERS)
        self._cv2.grabCut(picture, labels, None, None, None, iterations, self._cv2.GC_INIT_WITH_MASK)
        return np.asarray(np.equal(labels % 2, 1))


def import_opencv() -> Any:
    """Import OpenCV.

    Raises:
        ArgumentError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ArgumentError("prompter", "grabcut needs OpenCV: pip install 'stm-fast[prompters]'") from error
    return cv2
