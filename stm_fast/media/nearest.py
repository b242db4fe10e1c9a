"""Soft pixels take the nearest of the colours around them."""

import numpy as np
from numpy.typing import NDArray


def to_nearest(
    labels: NDArray[np.integer], colours: NDArray[np.uint8], region: NDArray[np.bool_], reach: int
) -> NDArray[np.integer]:
    """Give every pixel outside the regions the nearest colour of the regions within reach, or of all if none is."""
    soft = ~region[labels]
    here = labels[soft]
    indices = np.flatnonzero(region)
    around = near(labels, indices, soft, reach)
    around[:, ~around.any(0)] = True
    apart = distances(colours, colours[indices])
    nearest, shortest = np.zeros(len(here), np.intp), np.full(len(here), np.inf)
    for place, index in enumerate(indices):
        distance = np.where(around[place], apart[here, place], np.inf)
        nearest[distance < shortest] = index
        shortest = np.minimum(shortest, distance)
    result = labels.copy()
    result[soft] = nearest
    return result


def near(
    labels: NDArray[np.integer], indices: NDArray[np.intp], where: NDArray[np.bool_], reach: int
) -> NDArray[np.bool_]:
    """Return whether each label is within `reach` rows and columns of each pixel of `where`, `(labels, pixels)`."""
    found = np.zeros((len(indices), int(where.sum())), bool)
    for place, index in enumerate(indices):
        found[place] = _grown(labels == index, reach)[where]
    return found


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Grow a mask by `reach` rows and columns, by shifts that double."""
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


def distances(colours: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return squared distances `(K, M)` between colours `(K, 3)` and `(M, 3)`."""
    differences = colours[:, None].astype(np.float32) - others[None].astype(np.float32)
    return np.asarray((differences**2).sum(2), np.float32)


def channel_distances(colours: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return the largest difference of a channel `(K, M)` between colours `(K, 3)` and `(M, 3)`."""
    differences = np.abs(colours[:, None].astype(np.int16) - others[None].astype(np.int16))
    return np.asarray(differences.max(2), np.int16)
