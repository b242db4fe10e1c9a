"""Frames cut out along their masks: RGBA with straight alpha."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stm_fast.export.options import ExportOptions
from stm_fast.export.result import MaskedFrame, Result
from stm_fast.export.soft import read_soft, top_of

MARGIN = 8
"""Pixels around the objects whose colours are kept, so that edges do not darken when editors and codecs mix pixels."""


def cutouts(result: Result, options: ExportOptions) -> Iterator[tuple[MaskedFrame, NDArray[np.uint8]]]:
    """Yield the frames of a result with their pictures cut out, RGBA uint8 `(H, W, 4)`.

    Alpha is 255 in objects and 0 elsewhere; or, if soft, the summed probability of the objects. Colours are those of
    the frame up to `MARGIN` pixels around the objects, and black beyond, so that nothing else of the frame is in it.

    Raises:
        MediaError: the video is not there, or its frames do not fit the masks; or there are no soft masks.
    """
    objects = result.soft_objects() if options.soft else ()
    for frame in result.with_images():
        alpha = _soft_alpha(result, frame.name, objects) if options.soft else _hard_alpha(frame)
        assert frame.image is not None
        colours = np.where(_grown(alpha > 0, MARGIN)[..., None], frame.image, 0)
        yield frame, np.concatenate([colours, alpha[..., None]], axis=2).astype(np.uint8)


def _hard_alpha(frame: MaskedFrame) -> NDArray[np.uint8]:
    return (frame.mask > 0).astype(np.uint8) * np.uint8(255)


def _soft_alpha(result: Result, name: str, objects: tuple[int, ...]) -> NDArray[np.uint8]:
    total = np.zeros(result.size)
    for object_id in objects:
        if (levels := read_soft(result, name, object_id)) is not None:
            total += levels / top_of(levels)
    return np.asarray(np.rint(255 * total.clip(max=1)), np.uint8)


def _grown(mask: NDArray[np.bool_], margin: int) -> NDArray[np.bool_]:
    """Return which pixels are within a square of `margin` pixels around those of a mask `(H, W)`."""
    for axis in (0, 1):
        sums = np.cumsum(np.pad(np.moveaxis(mask, axis, 0), ((margin + 1, margin), (0, 0))), axis=0, dtype=np.int32)
        mask = np.moveaxis(sums[2 * margin + 1 :] > sums[: -2 * margin - 1], 0, axis)
    return mask
