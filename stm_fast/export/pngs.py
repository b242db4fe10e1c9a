"""A black and white PNG for each frame."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Each, Result


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write `<frame>.png`, 255 where an object is."""
    for frame in result:
        save_binary(target / f"{frame.name}.png", frame.mask > 0)
        each(frame)


def save_binary(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write a mask `(H, W)` as grey of 8 bits, 0 and 255."""
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(path, format="PNG")
