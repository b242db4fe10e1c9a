"""A black and white PNG for each object and frame."""

import shutil
from pathlib import Path

import numpy as np

from stm_fast.export.options import ExportOptions
from stm_fast.export.pngs import save_binary
from stm_fast.export.result import Each, Result


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write `<id>/<frame>.png`, 255 where the object is. Each object has a file for every frame."""
    empty = target / ".empty.png"
    save_binary(empty, np.zeros(result.size, bool))
    seen: set[int] = set()
    for frame in result:
        for object_id in set(frame.objects) - seen:
            (target / str(object_id)).mkdir()
            for name in result.names[: frame.index]:
                shutil.copyfile(empty, target / str(object_id) / f"{name}.png")
        seen.update(frame.objects)
        for object_id in seen:
            path = target / str(object_id) / f"{frame.name}.png"
            if object_id in frame.objects:
                save_binary(path, frame.mask == object_id)
            else:
                shutil.copyfile(empty, path)
        each(frame)
    empty.unlink()
