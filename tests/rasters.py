"""Rings filled by the rule of even and odd, sampled at the centres of pixels."""

import numpy as np


def filled(rings, size) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    mask = np.zeros(size, bool)
    for ring in map(np.asarray, rings):
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 != y1:
                crossed = (y0 > rows) != (y1 > rows)
                mask ^= crossed & (x0 + (rows - y0) * (x1 - x0) / (y1 - y0) > columns)
    return mask


def overlap(one, other) -> float:
    return (one & other).sum() / (one | other).sum()
