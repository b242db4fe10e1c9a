"""Distances within a picture that grow with every change of colour on the way."""

import numpy as np
from numpy.typing import NDArray

FAR = np.float32(1e9)
_MAX_SWEEPS, _SWEEPS_PER_CHECK = 2000, 16


def distances(colours: NDArray[np.float32], seeds: NDArray[np.bool_], step: float) -> NDArray[np.float32]:
    """Return the length of the shortest path from seeds to each pixel.

    The length of a path is the sum of the colour differences between its pixels, which are neighbours in a row or a
    column, plus a constant for each step.

    Args:
        colours: `(H, W, C)`.
        seeds: `(H, W)`.
        step: length of a step between pixels of one colour.

    Returns:
        float32 `(H, W)`; `FAR` everywhere if there is no seed.
    """
    across = np.linalg.norm(np.diff(colours, axis=1), axis=2) + np.float32(step)
    down = np.linalg.norm(np.diff(colours, axis=0), axis=2) + np.float32(step)
    found = np.where(seeds, np.float32(0), FAR)
    for sweep in range(_MAX_SWEEPS if seeds.any() else 0):
        before = found.copy() if sweep % _SWEEPS_PER_CHECK == 0 else None
        np.minimum(found[:, 1:], found[:, :-1] + across, out=found[:, 1:])
        np.minimum(found[:, :-1], found[:, 1:] + across, out=found[:, :-1])
        np.minimum(found[1:], found[:-1] + down, out=found[1:])
        np.minimum(found[:-1], found[1:] + down, out=found[:-1])
        if before is not None and np.array_equal(before, found):
            break
    return found
