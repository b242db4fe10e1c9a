"""Views: what a frame shows of a picture."""

from dataclasses import dataclass

import numpy as np

from stm_fast.training.augment.affine import Colour, Matrix, Picture
from stm_fast.training.augment.bends import Displacement
from stm_fast.training.augment.opencv import opencv
from stm_fast.training.batch import VOID


@dataclass(frozen=True)
class View:
    """The map from a picture to a frame of `size` by `size` pixels, applied once, to the frame and its mask alike.

    Attributes:
        matrix: affine map.
        size: side of the frame in pixels.
        bend: what bends the frame after that; None for nothing.
        fill: colour of the frame outside the picture, where the mask is background. None reflects the picture at its
            edges, where the mask is void: a mirrored object is neither the object nor background.
    """

    matrix: Matrix
    size: int
    bend: Displacement | None = None
    fill: Colour | None = None

    def of(self, frame: Picture, mask: Picture) -> tuple[Picture, Picture]:
        """Return the view of a picture `(H, W, 3)`, linearly interpolated, and of its mask `(H, W)`, by nearest ids."""
        cv2 = opencv()
        parts = (
            (frame, cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101 if self.fill is None else cv2.BORDER_CONSTANT, self.fill),
            (mask, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, VOID if self.fill is None else 0),
        )
        if self.bend is None:
            matrix, size = self.matrix[:2], (self.size, self.size)
            seen = [cv2.warpAffine(part, matrix, size, None, *how) for part, *how in parts]
        else:
            places = self._places(self.bend)
            seen = [cv2.remap(part, places, None, how, None, *edge) for part, how, *edge in parts]
        return seen[0], seen[1]

    def _places(self, bend: Displacement) -> Displacement:
        """Return the x and y of the picture that each pixel of the frame shows, `(S, S, 2)`."""
        cv2 = opencv()
        axis = np.arange(self.size, dtype=np.float32)
        straight = bend + np.stack(np.meshgrid(axis, axis), -1)
        places: Displacement = cv2.transform(straight, np.linalg.inv(self.matrix)[:2])
        return places
