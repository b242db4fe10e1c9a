"""Masks drawn over frames."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.colours import COLOURS, CONTRAST, GREY, places
from stm_fast.media.labels import NOWHERE, draw_labels, draw_legend

_LINE, _SECOND_LINE = 1 / 200, 1 / 400
"""Widths of an outline and of the line inside it, as fractions of the frame's shorter side."""
_STRIPE = 1 / 40
"""Width of the stripes of objects without a hue, as a fraction of the frame's shorter side."""
_FIRST_GREY = 7
"""The first object without a hue; the stripes of the others slant the other way."""


def blend(
    frame: NDArray[np.uint8],
    mask: NDArray[np.integer],
    opacity: float = 0.4,
    *,
    labels: bool = False,
    legend: Sequence[int] = (),
) -> NDArray[np.uint8]:
    """Tint and outline the objects of a frame.

    An outline has two lines, one in the object's colour and one that contrasts with it, so that one of them is visible
    on any frame. Grey objects have stripes.

    Args:
        frame: RGB uint8 `(H, W, 3)`.
        mask: ids `(H, W)`, 0 for the background.
        opacity: of the tint, 0 to 1; the outline is always opaque.
        labels: write each id at its object.
        legend: ids that a legend shows beside their colours; empty for no legend.

    Returns:
        RGB uint8 `(H, W, 3)`.
    """
    blended = frame.copy(order="C")
    ids = places(mask)
    rows, columns = np.flatnonzero(ids.any(axis=1)), np.flatnonzero(ids.any(axis=0))
    if rows.size:
        top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
        around = slice(top, rows[-1] + 2), slice(left, columns[-1] + 2)
        part, own = np.ascontiguousarray(blended[around]), np.ascontiguousarray(ids[around])
        _tint(part, own, round(256 * opacity), max(2, round(_STRIPE * min(mask.shape))), (top, left))
        _outline(part, own, *(max(1, round(share * min(mask.shape))) for share in (_LINE, _SECOND_LINE)))
        blended[around] = part
    covered = draw_legend(blended, legend) if legend else NOWHERE
    if labels:
        draw_labels(blended, mask, covered)
    return blended


def _tint(
    picture: NDArray[np.uint8], ids: NDArray[np.uint8], opacity: int, stripe: int, corner: tuple[int, int]
) -> None:
    """Mix the objects' colours into the part of a frame that starts at a corner, with an opacity of `opacity` / 256."""
    pixels = picture.reshape(-1, 3)
    inside = np.flatnonzero(ids)
    own = ids.reshape(-1)[inside]
    colours = (COLOURS * np.uint16(opacity)).take(own, axis=0)
    if (grey := GREY[own]).any():
        row, column = inside // ids.shape[1] + corner[0], inside % ids.shape[1] + corner[1]
        slant = np.where(own > _FIRST_GREY, row - column, row + column)
        dark = grey & (slant // stripe % 2 > 0)
        colours[dark] = CONTRAST[own[dark]] * np.uint16(opacity)
    colours += pixels.take(inside, axis=0) * np.uint16(256 - opacity)
    pixels[inside] = colours >> 8


def _outline(picture: NDArray[np.uint8], ids: NDArray[np.uint8], width: int, second: int) -> None:
    """Draw both lines inside the edge of each object."""
    pixels, own = picture.reshape(-1, 3), ids.reshape(-1)
    for colours, reach in ((CONTRAST, width + second), (COLOURS, width)):
        edge = np.flatnonzero(_near_edge(ids, reach))
        pixels[edge] = colours.take(own[edge], axis=0)


def _near_edge(ids: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Return which pixels of objects are within `width` pixels, along a row or column, of a pixel with another id."""
    near = _spread(ids[1:] != ids[:-1], width, ids.shape[0])
    near |= _spread((ids[:, 1:] != ids[:, :-1]).T, width, ids.shape[1]).T
    return near & (ids > 0)


def _spread(changes: NDArray[np.bool_], width: int, length: int) -> NDArray[np.bool_]:
    """Return the lines `(length, ...)` within `width` of a change between a line and the next."""
    span = 2 * width
    window = np.zeros((length + span - 1, *changes.shape[1:]), np.bool_)
    window[width : width + len(changes)] = changes
    covered = 1
    while covered < span:
        step = min(covered, span - covered)
        window = window[:-step] | window[step:]
        covered += step
    return window
