"""YOLO segmentation: a text file for each frame, and data.yaml."""

import json
from pathlib import Path

from stm_fast.export.images import copying
from stm_fast.export.options import ExportOptions
from stm_fast.export.polygons import Polygons
from stm_fast.export.result import Each, MaskedFrame, Result


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write `labels/<frame>.txt` and `data.yaml`, and with images `images/`.

    A line is the number of a category, from 0, and the corners of a polygon as fractions of width and height. A frame
    without objects has an empty file.
    """
    labels = target / "labels"
    labels.mkdir()
    polygons = Polygons(options.tolerance)
    for frame in copying(result, target / "images") if options.images else result:
        (labels / f"{frame.name}.txt").write_text(_lines(frame, result.size, options, polygons), encoding="utf-8")
        each(frame)
    polygons.finish()
    names = "".join(f"  {number - 1}: {json.dumps(name)}\n" for name, number in options.category_numbers.items())
    (target / "data.yaml").write_text(f"train: images\nval: images\nnames:\n{names}", encoding="utf-8")


def _lines(frame: MaskedFrame, size: tuple[int, int], options: ExportOptions, polygons: Polygons) -> str:
    lines = []
    for object_id in frame.objects:
        ring = polygons.of(frame.mask == object_id) / size[::-1]
        number = options.category_numbers[options.category(object_id)] - 1
        lines.append(f"{number} {' '.join(f'{each:.6f}' for each in ring.ravel().tolist())}\n")
    return "".join(lines)
