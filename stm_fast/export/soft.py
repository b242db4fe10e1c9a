"""The probabilities that a run kept of its objects."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.export.result import Result
from stm_fast.media.pictures import UNREADABLE


def read_soft(result: Result, name: str, object_id: int) -> "NDArray[np.uint8] | NDArray[np.uint16] | None":
    """Read the soft mask of an object in a frame `(H, W)`; None for a frame before the object joined.

    Raises:
        MediaError: it cannot be read, or differs in size from the masks.
    """
    path = result.soft_mask(name, object_id)
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            levels = np.array(image)
    except UNREADABLE as error:
        raise MediaError(f"{path} cannot be read as a soft mask: {error}") from error
    if levels.dtype not in (np.uint8, np.uint16) or levels.shape != result.size:
        raise MediaError(
            f"{path} must be grey of 8 or 16 bits and {result.size[1]}×{result.size[0]}, as the masks are; got "
            f"{levels.dtype} {'×'.join(map(str, levels.shape[1::-1]))}"
        )
    return levels


def top_of(levels: "NDArray[np.uint8] | NDArray[np.uint16]") -> int:
    """Return the level of certainty, 255 or 65535."""
    return int(np.iinfo(levels.dtype).max)
