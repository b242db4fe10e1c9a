"""Reliefs: flat cut-outs that are inflated, so that they can be turned a little."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.solids.model import Model, Part, Picture, assemble

CELLS = 40  # of the mesh along the longer side
_FINENESS = 4  # pixels of the height field for each cell


def relief(picture: Picture, depth: float, back: float) -> Model | None:
    """Inflate an RGBA cut-out: it is thickest far from its outline. Return None if hardly anything is opaque.

    Args:
        picture: `(h, w, 4)` uint8.
        depth: height of the front over the outline where it is highest, in the radius of the largest circle inside.
        back: the same of the back, which shows the same picture mirrored.
    """
    height, width = picture.shape[:2]
    columns, rows = (max(2, round(CELLS * side / max(height, width))) for side in (width, height))
    size = (columns * _FINENESS + 1, rows * _FINENESS + 1)
    solid = (cv2.resize(picture[..., 3], size, interpolation=cv2.INTER_AREA) > 127).astype(np.uint8)
    if not solid.any():
        return None
    distance = cv2.distanceTransform(np.pad(solid, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    radius = float(distance.max())
    swelling = radius * np.sqrt(np.clip(1 - (1 - distance / radius) ** 2, 0, 1))
    swelling = cv2.GaussianBlur(swelling, (0, 0), 0.5 * _FINENESS) * (distance > 0)
    x, y = np.meshgrid(np.arange(columns + 1) * _FINENESS, np.arange(rows + 1) * _FINENESS)
    z = swelling[::_FINENESS, ::_FINENESS]
    texcoords = np.stack([x / (size[0] - 1), y / (size[1] - 1)], -1).reshape(-1, 2) * 0.998 + 0.001
    triangles = _triangles(solid, rows, columns)
    parts = []
    for side in (depth, -back):
        positions = np.stack([x, -y, side * z], -1).reshape(1, -1, 3).astype(np.float32)
        parts.append(Part(positions, triangles, texcoords.astype(np.float32), picture))
    return assemble(parts)


def _triangles(solid: Picture, rows: int, columns: int) -> NDArray[np.int64]:
    """Return two triangles `(n, 3)` for each cell of the mesh that has something solid."""
    side = _FINENESS + 3  # a cell and the pixels around it
    used = cv2.dilate(solid, np.ones((side, side), np.uint8))[_FINENESS // 2 :: _FINENESS, _FINENESS // 2 :: _FINENESS]
    row, column = np.nonzero(used[:rows, :columns])
    first = row * (columns + 1) + column
    below = first + columns + 1
    return np.concatenate([np.stack([first, below, below + 1], 1), np.stack([first, below + 1, first + 1], 1)])
