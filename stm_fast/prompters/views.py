"""A part of a frame, made smaller, and masks that go between the two."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stm_fast.prompters.hints import Box, Point


@dataclass(frozen=True)
class View:
    """A part of a frame.

    Attributes:
        window: the part.
        picture: its pixels, RGB uint8 `(h, w, 3)`.
        scale: pixels of the picture per pixel of the frame, at most 1.
        size: height and width of the frame.
    """

    window: Box
    picture: NDArray[np.uint8]
    scale: float
    size: tuple[int, int]

    @classmethod
    def around(cls, window: Box, image: NDArray[np.uint8], max_side: int) -> "View":
        """View a window of a frame `(H, W, 3)` at no more than `max_side` pixels."""
        x0, y0, x1, y1 = window
        part = image[y0:y1, x0:x1]
        scale = min(1.0, max_side / max(part.shape[:2]))
        if scale < 1:
            size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
            part = np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BOX))
        return cls(window, np.ascontiguousarray(part), scale, (image.shape[0], image.shape[1]))

    def place(self, point: Point) -> tuple[int, int]:
        """Return x and y of the picture's pixel that holds a pixel of the frame, or the one at the edge nearest it."""
        height, width = self.picture.shape[:2]
        x = int((point.x - self.window.x0) * width / (self.window.x1 - self.window.x0))
        y = int((point.y - self.window.y0) * height / (self.window.y1 - self.window.y0))
        return min(max(x, 0), width - 1), min(max(y, 0), height - 1)

    def down(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask of the frame `(H, W)` in the picture `(h, w)`: where it covers half of a pixel or more."""
        x0, y0, x1, y1 = self.window
        part = np.ascontiguousarray(mask[y0:y1, x0:x1])
        if self.scale == 1:
            return part
        covered = Image.fromarray(part.astype(np.uint8) * 255).resize(self.picture.shape[1::-1], Image.Resampling.BOX)
        return np.asarray(covered) >= 128

    def up(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask of the picture `(h, w)` in the frame `(H, W)`, False outside of the window."""
        x0, y0, x1, y1 = self.window
        whole = np.zeros(self.size, bool)
        soft = Image.fromarray(mask.astype(np.uint8) * 255).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
        whole[y0:y1, x0:x1] = np.asarray(soft) >= 128
        return whole
