"""MOTChallenge: a line for each object in each frame, with its box."""

from pathlib import Path

from stm_fast.export.masks import box_of
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Each, Result


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write lines `frame,id,left,top,width,height,confidence,-1,-1,-1`.

    As the format has it, frames, columns and rows are counted from 1. All boxes have confidence 1.
    """
    with target.open("w", encoding="utf-8") as file:
        for frame in result:
            for object_id in frame.objects:
                box = box_of(frame.mask == object_id)
                file.write(f"{frame.index + 1},{object_id},{box.left + 1},{box.top + 1},{box.width},{box.height}")
                file.write(",1,-1,-1,-1\n")
            each(frame)
