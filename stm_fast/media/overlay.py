"""Masks drawn over frames."""

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.masks import DAVIS_PALETTE


def _bright_palette() -> NDArray[np.float32]:
    """The DAVIS colours at full brightness, so that they show on dark frames; the hue still tells the id."""
    colours = DAVIS_PALETTE.astype(np.float32)
    peak = colours.max(axis=1, keepdims=True)
    return np.where(peak > 0, 64 + 191 * colours / np.maximum(peak, 1), 0).astype(np.float32)


_COLOURS = _bright_palette()


def blend(frame: NDArray[np.uint8], mask: NDArray[np.integer], opacity: float = 0.4) -> NDArray[np.uint8]:
    """A frame with its objects tinted and outlined.

    Args:
        frame: RGB uint8 `(H, W, 3)`.
        mask: ids `(H, W)`, 0 to 255.
        opacity: of the tint, 0 to 1; the outline is always opaque.

    Returns:
        RGB uint8 `(H, W, 3)`.
    """
    blended = frame.copy()
    inside = mask > 0
    blended[inside] = (1 - opacity) * frame[inside] + opacity * _COLOURS[mask[inside]]
    edge = _outline(mask, max(1, round(min(mask.shape) / 200)))
    blended[edge] = _COLOURS[mask[edge]]
    return blended


def _outline(mask: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
    """Pixels of objects within `width` of a pixel with another id."""
    edge = np.zeros(mask.shape, np.bool_)
    for step in range(1, width + 1):
        down = mask[step:] != mask[:-step]
        right = mask[:, step:] != mask[:, :-step]
        edge[step:] |= down
        edge[:-step] |= down
        edge[:, step:] |= right
        edge[:, :-step] |= right
    return edge & (mask > 0)
