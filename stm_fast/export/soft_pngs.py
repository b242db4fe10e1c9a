"""A grey PNG of its probability for each object and frame."""

from pathlib import Path

import numpy as np
from PIL import Image

from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Each, Result
from stm_fast.export.soft import read_soft, top_of


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write `<id>/<frame>.png`, white where the object is certain. Each object has a file for every frame.

    An object has the probability 0 in frames before it joined. Without a wish, bits are those that the run kept.
    """
    objects = result.soft_objects()
    for object_id in objects:
        (target / str(object_id)).mkdir()
    bits = options.bits or _kept_bits(result, objects)
    for frame in result:
        for object_id in objects:
            levels = read_soft(result, frame.name, object_id)
            scaled = np.zeros(result.size) if levels is None else levels * (((1 << bits) - 1) / top_of(levels))
            pixels = np.rint(scaled).astype(np.uint8 if bits == 8 else np.uint16)
            Image.fromarray(pixels).save(target / str(object_id) / f"{frame.name}.png", format="PNG")
        each(frame)


def _kept_bits(result: Result, objects: tuple[int, ...]) -> int:
    """Return the bits of the first soft mask that is found."""
    for name in result.names:
        for object_id in objects:
            if (levels := read_soft(result, name, object_id)) is not None:
                return 8 * levels.itemsize
    return 8
