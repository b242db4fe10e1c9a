"""Objects as one ring each, for formats that have neither parts nor holes."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.notices import notice
from stm_fast.media.outlines import Outline, Ring, outlines

TOLERANCE = 0.4
"""Distance in pixels by which outlines may cut corners, unless the user says: steps become slanted lines."""


class Polygons:
    """Turns objects into one ring each, and gives a notice at the end if some had to be joined.

    Args:
        tolerance: see `stm_fast.media.outlines.outlines`; None for `TOLERANCE`.
    """

    def __init__(self, tolerance: float | None) -> None:
        self._tolerance = TOLERANCE if tolerance is None else tolerance
        self._count = self._joined = 0

    def of(self, mask: NDArray[np.bool_]) -> Ring:
        """Return the ring of a mask `(H, W)` that is not empty."""
        found = outlines(mask, self._tolerance)
        self._count += 1
        self._joined += len(found) > 1 or bool(found[0].holes)
        return single_ring(found)

    def finish(self) -> None:
        """Give a notice of polygons that other programs may draw with lines between their parts."""
        if self._joined:
            notice(
                f"{self._joined} of {self._count} polygons have parts or holes, joined by lines without width "
                "that programs may draw"
            )


def single_ring(parts: Sequence[Outline]) -> Ring:
    """Return one ring of all parts and holes, joined by lines that lead there and back, which enclose no area.

    Args:
        parts: of a mask that is not empty.
    """
    rings = [ring for outline in parts for ring in (outline.exterior, *outline.holes)]
    joined = rings[0]
    for ring in rings[1:]:
        joined = _joined(joined, ring)
    return joined


def rounded(numbers: Iterable[float]) -> str:
    """Return coordinates `x,y` with at most two digits after the point."""
    return ",".join(f"{number:.2f}".rstrip("0").rstrip(".") for number in numbers)


def _joined(ring: Ring, other: Ring) -> Ring:
    """Return a ring that leads round the first to the corner nearest to the other, round that, and back."""
    distances = ((ring[:, None] - other[None]) ** 2).sum(axis=2)
    own, theirs = divmod(int(np.argmin(distances)), len(other))
    around = np.roll(other, -theirs, axis=0)
    return np.concatenate([ring[: own + 1], around, around[:1], ring[own:]])
