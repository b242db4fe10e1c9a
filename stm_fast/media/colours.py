"""Colours that tell objects apart and stand out from any frame."""

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.palette import DAVIS_PALETTE, MAX_INDEX

DARK, BRIGHT = (12, 12, 14), (250, 250, 250)
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_FLOOR = 64
"""Minimum of red, green and blue in a colour at full brightness, which makes it paler than the pure hue."""
_USUAL = 128
"""Maximum of red, green and blue in the DAVIS colours of the first objects."""


def _colours() -> NDArray[np.uint8]:
    """Brighten the DAVIS colours. Ids with the same hue, such as 1, 8 and 9, differ in brightness, then in paleness."""
    davis = DAVIS_PALETTE.astype(np.float64)
    peak = davis.max(axis=1, keepdims=True)
    hue = davis / np.maximum(peak, 1)
    level = np.minimum(peak / _USUAL, 1)
    colours = (_FLOOR + (255 - _FLOOR) * hue) * (0.4 + 0.6 * level)
    paleness = 0.75 * np.maximum(peak - _USUAL, 0) / (255 - _USUAL)
    colours += (255 - colours) * paleness
    colours[0] = 0
    found: NDArray[np.uint8] = colours.round().astype(np.uint8)
    return found


COLOURS = _colours()
"""Colours of objects 0 to 255, uint8 `(256, 3)`."""

GREY = (DAVIS_PALETTE[:, :1] == DAVIS_PALETTE).all(axis=1)
"""Which objects have no hue, such as 7, 56 and 63; they are striped."""
GREY[0] = False

CONTRAST = np.where((COLOURS @ _LUMINANCE > 110)[:, None], DARK, BRIGHT).astype(np.uint8)
"""Dark or bright, whichever contrasts more with each colour, uint8 `(256, 3)`.

One of the two stands out on any frame."""

TEXT = (COLOURS + (255 - COLOURS) * 0.65).round().astype(np.uint8)
"""Each colour, light enough for text with a dark halo, uint8 `(256, 3)`."""


def places(mask: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the rows of the tables above for the ids of a mask; ids above 255 start again at 1."""
    if mask.dtype == np.uint8:
        return mask.view(np.uint8)
    return np.where(mask > 0, (mask - 1) % MAX_INDEX + 1, 0).astype(np.uint8)


def place(object_id: int) -> int:
    """Return the row of the tables above for an object."""
    return (object_id - 1) % MAX_INDEX + 1
