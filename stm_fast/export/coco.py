"""COCO: instances as run lengths, in one JSON file."""

from collections.abc import Callable
from pathlib import Path

import stm_fast
from stm_fast.export.images import copying
from stm_fast.export.json_stream import json_object
from stm_fast.export.masks import RunLengths
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Each, MaskedFrame, Result

SUBSET = "default"


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write `instances_default.json`; with images, a folder of `annotations/instances_default.json` and `images/`.

    An object that is not in a frame has no annotation there. Images are numbered from 1, in the order of frames.
    """
    coder = RunLengths()
    file, frames = target, iter(result)
    if options.images:
        file = target / "annotations" / f"instances_{SUBSET}.json"
        file.parent.mkdir(parents=True)
        frames = copying(result, target / "images" / SUBSET)
    height, width = result.size
    numbers = options.category_numbers
    with file.open("w", encoding="utf-8") as opened, json_object(opened) as document:
        document.member("info", {"description": result.title, "version": f"stm-fast {stm_fast.__version__}"})
        document.member("licenses", [])
        document.member(
            "categories", [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()]
        )
        with document.array("images") as append:
            for number, name in enumerate(result.names, 1):
                file_name = options.image_root + result.image_name(name)
                append({"id": number, "file_name": file_name, "width": width, "height": height})
        with document.array("annotations") as append:
            count = 0
            for frame in frames:
                count = _annotate(frame, count, coder, options, append)
                each(frame)


def _annotate(
    frame: MaskedFrame, count: int, coder: RunLengths, options: ExportOptions, append: Callable[[object], None]
) -> int:
    """Append the objects of a frame; return the number of annotations so far."""
    numbers = options.category_numbers
    for object_id in frame.objects:
        found = coder.of(frame, object_id)
        count += 1
        append(
            {
                "id": count,
                "image_id": frame.index + 1,
                "category_id": numbers[options.category(object_id)],
                "track_id": object_id,
                "segmentation": found.segmentation,
                "area": found.area,
                "bbox": list(found.box),
                "iscrowd": 0,
                "attributes": {"track_id": object_id, "occluded": False},
            }
        )
    return count
