"""Objects cut out of a picture and pasted over frames."""

from dataclasses import dataclass

import numpy as np

from stm_fast.training.augment.affine import Matrix, Motion, Picture, centre
from stm_fast.training.augment.opencv import opencv

_PLACES = (0.15, 0.85)
"""Range of x and y of a pasted object's centre, as fractions of the frame's side, before it moves."""
_MAX_ZOOM = 2.0
_MARGIN = 2
"""Pixels around an object that are cut out with it, so that its edge can be interpolated."""


@dataclass(frozen=True)
class CutOut:
    """An object of a picture.

    Attributes:
        frame: RGB `(h, w, 3)`, the object and a little around it.
        cover: `(h, w)`, 255 on the object, 0 elsewhere, between at its edge.
    """

    frame: Picture
    cover: Picture

    def place(self, rng: np.random.Generator, motion: Motion, frames: int, size: int) -> list[Matrix]:
        """Draw a place, and maps to `frames` frames of `size` pixels, in each of which the object moves from there."""
        x, y = (float(at) for at in size * rng.uniform(*_PLACES, 2))
        put = np.eye(3)
        put[:2, 2] = np.array([x, y]) - centre(self.cover.shape)
        return [motion.draw(rng, (x, y), size) @ put for _ in range(frames)]

    def paste(self, frame: Picture, mask: Picture, matrix: Matrix, number: int) -> None:
        """Paste the object over a frame `(S, S, 3)` and its mask `(S, S)`, in place, under the id `number`."""
        cv2, size = opencv(), (len(mask), len(mask))
        cover = cv2.warpAffine(self.cover, matrix[:2], size, flags=cv2.INTER_LINEAR)
        left, top, width, height = cv2.boundingRect(cover)
        part = slice(top, top + height), slice(left, left + width)
        alpha = cover[part][..., None].astype(np.uint16)
        paint = cv2.warpAffine(self.frame, matrix[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        frame[part] = (paint[part] * alpha + frame[part] * (255 - alpha) + 127) // 255
        mask[part][cover[part] > 127] = number


def cut_out(frame: Picture, mask: Picture, number: int, side: float) -> CutOut:
    """Cut an object out of a frame.

    Args:
        frame: RGB `(H, W, 3)`.
        mask: ids `(H, W)`.
        number: the object's id, which the mask shows.
        side: length in pixels to which the object's longer side is resized; small objects are at most doubled.
    """
    cv2 = opencv()
    cover = np.where(mask == number, np.uint8(255), np.uint8(0))
    left, top, width, height = cv2.boundingRect(cover)
    part = (
        slice(max(top - _MARGIN, 0), top + height + _MARGIN),
        slice(max(left - _MARGIN, 0), left + width + _MARGIN),
    )
    zoom = min(side / max(width, height), _MAX_ZOOM)
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    shape = [max(1, round(zoom * length)) for length in cover[part].shape[::-1]]
    return CutOut(*(cv2.resize(np.ascontiguousarray(of[part]), shape, interpolation=method) for of in (frame, cover)))
