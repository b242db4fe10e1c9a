"""The display matrix, which says how a video's frames are turned and mirrored to be upright."""

from fractions import Fraction
from math import atan2, degrees, hypot
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Matrix = tuple[int, ...]


def display_matrix(frame: "VideoFrame") -> Matrix | None:
    """Return the nine numbers of a decoded frame's display matrix, row by row; None if it has no matrix."""
    from av.sidedata.sidedata import Type

    data = cast(Any, frame.side_data).get(Type.DISPLAYMATRIX)
    return tuple(np.frombuffer(bytes(data), np.int32).tolist()) if data else None


def is_sideways(matrix: Matrix | None) -> bool:
    """Return whether width and height are swapped."""
    return matrix is not None and _angle(matrix) in (90, 270)


def upright(image: NDArray[np.uint8], matrix: Matrix | None) -> NDArray[np.uint8]:
    """Turn and mirror a picture as the ffmpeg program and most players do.

    Args:
        image: `(H, W, C)`.
        matrix: from `display_matrix`. Angles other than quarter turns keep the size and leave black corners.

    Returns:
        `(H, W, C)`, or `(W, H, C)` if `is_sideways`.
    """
    if matrix is None:
        return image
    angle = _angle(matrix)
    if angle == 90:
        image = image.transpose(1, 0, 2) if matrix[3] > 0 else np.rot90(image, -1)
    elif angle == 270:
        image = np.rot90(image, 2).transpose(1, 0, 2) if matrix[3] < 0 else np.rot90(image)
    elif angle == 180:
        image = image[:, ::-1] if matrix[0] < 0 else image
        image = image[::-1] if matrix[4] < 0 else image
    elif angle == 0:
        image = image[::-1] if matrix[4] < 0 else image
    else:
        image = _rotated(image, angle)
    return np.ascontiguousarray(image)


def _angle(matrix: Matrix) -> int:
    """Return the angle in degrees clockwise, 0 to 359; 0 for a matrix that is degenerate."""
    scale_x, scale_y = hypot(matrix[0], matrix[3]), hypot(matrix[1], matrix[4])
    if not scale_x or not scale_y:
        return 0
    return round(degrees(atan2(matrix[1] / scale_y, matrix[0] / scale_x))) % 360


def _rotated(image: NDArray[np.uint8], angle: int) -> NDArray[np.uint8]:
    """Turn a picture clockwise by any angle, keeping its size."""
    from av.filter import Graph
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame

    height, width = image.shape[:2]
    graph = Graph()
    nodes = (
        graph.add_buffer(width=width, height=height, format=VideoFormat("rgb24"), time_base=Fraction(1)),
        graph.add("rotate", f"{angle}*PI/180"),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()
    graph.vpush(VideoFrame.from_ndarray(image, format="rgb24"))
    return np.asarray(graph.vpull().to_ndarray(format="rgb24"), np.uint8)
