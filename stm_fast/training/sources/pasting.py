"""Objects cut out of a picture and pasted over frames."""

from dataclasses import dataclass

import numpy as np

from stm_fast.training.augment.affine import Matrix, Motion, Picture, centre, warp_frame
from stm_fast.training.augment.opencv import opencv

_SIDES = (0.25, 0.6)
"""Range of a pasted object's longer side, as a fraction of the frame's."""
_MARGIN = 2


@dataclass(frozen=True)
class CutOut:
    """An object of a picture.

    Attributes:
        frame: RGB `(h, w, 3)`, the object and a little around it.
        cover: `(h, w)`, 255 on the object, 0 elsewhere.
    """

    frame: Picture
    cover: Picture

    def place(self, rng: np.random.Generator, motion: Motion, frames: int, size: int) -> list[Matrix]:
        """Draw a size and a place, and maps to `frames` frames of `size` pixels, in each of which it moves a little."""
        zoom = size * rng.uniform(*_SIDES) / max(self.cover.shape)
        place = rng.uniform(0.15, 0.85, 2) * size
        put = np.diag([zoom, zoom, 1.0])
        put[:2, 2] = place - zoom * np.array(centre(self.cover.shape))
        return [motion.draw(rng, (float(place[0]), float(place[1])), size) @ put for _ in range(frames)]

    def paste(self, frame: Picture, mask: Picture, matrix: Matrix, number: int) -> None:
        """Paste the object over a frame `(S, S, 3)` and its mask `(S, S)`, in place, under the id `number`."""
        cover = _warp_cover(self.cover, matrix, len(mask))
        left, top, width, height = opencv().boundingRect(cover)
        part = slice(top, top + height), slice(left, left + width)
        alpha = cover[part][..., None].astype(np.uint16)
        paint = warp_frame(self.frame, matrix, len(mask))[part]
        frame[part] = (paint * alpha + frame[part] * (255 - alpha) + 127) // 255
        mask[part][cover[part] > 127] = number


def _warp_cover(cover: Picture, matrix: Matrix, size: int) -> Picture:
    """Map a cover `(H, W)` of 0 to 255 to `size` by `size` pixels by linear interpolation; outside it is 0."""
    cv2 = opencv()
    warped: Picture = cv2.warpAffine(cover, matrix[:2], (size, size), flags=cv2.INTER_LINEAR)
    return warped


def cut_out(frame: Picture, mask: Picture, number: int) -> CutOut:
    """Cut an object out of a frame `(H, W, 3)` with the mask `(H, W)`, which shows the id `number`."""
    cover = np.where(mask == number, np.uint8(255), np.uint8(0))
    left, top, width, height = opencv().boundingRect(cover)
    part = (
        slice(max(top - _MARGIN, 0), top + height + _MARGIN),
        slice(max(left - _MARGIN, 0), left + width + _MARGIN),
    )
    return CutOut(np.ascontiguousarray(frame[part]), np.ascontiguousarray(cover[part]))
