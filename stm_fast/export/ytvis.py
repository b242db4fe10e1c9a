"""YouTube-VIS: an annotation for each object, with its run length in every frame."""

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import stm_fast
from stm_fast.export.json_stream import json_object
from stm_fast.export.masks import RunLength, RunLengths
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Each, Result
from stm_fast.export.spools import Spools


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write the JSON file. Frames without the object have null.

    An object's frames are together in the file. Until all frames are read, run lengths are in a temporary file for each
    object, and boxes and areas in memory: 24 bytes for each object in each frame.
    """
    coder = RunLengths()
    height, width = result.size
    numbers = options.category_numbers
    root = options.image_root or f"{result.title}/"
    with Spools() as spools, target.open("w", encoding="utf-8") as file, json_object(file) as document:
        document.member("info", {"description": result.title, "version": f"stm-fast {stm_fast.__version__}"})
        document.member("licenses", [])
        document.member("categories", [{"id": number, "name": name} for name, number in numbers.items()])
        names = [root + result.image_name(name) for name in result.names]
        document.member(
            "videos", [{"id": 1, "width": width, "height": height, "length": len(names), "file_names": names}]
        )
        tracks: dict[int, _Track] = {}
        for frame in result:
            for object_id in frame.objects:
                found = coder.of(frame, object_id)
                spools.append(object_id, tracks.setdefault(object_id, _Track()).add(frame.index, found))
            each(frame)
        with document.raw_array("annotations") as begin:
            for number, object_id in enumerate(spools, 1):
                about = {
                    "id": number,
                    "video_id": 1,
                    "category_id": numbers[options.category(object_id)],
                    "track_id": object_id,
                    "iscrowd": 0,
                    "height": height,
                    "width": width,
                    "length": 1,
                }
                begin()
                file.write(json.dumps(about)[:-1] + ', "segmentations": [')
                spools.copy(object_id, file)
                tracks[object_id].write_rest(file, len(names))


class _Track:
    """The frames of an object: numbers, boxes and areas."""

    def __init__(self) -> None:
        self._rows = array("i")

    @property
    def _end(self) -> int:
        """Number of frames up to the last one that was added."""
        return self._rows[-6] + 1 if self._rows else 0

    def add(self, index: int, found: RunLength) -> str:
        """Add a frame; return its run length as JSON, after null for the frames since the one before."""
        comma = ", " if self._end else ""
        text = comma + "null, " * (index - self._end) + json.dumps(found.segmentation)
        self._rows.extend((index, *found.box, found.area))
        return text

    def write_rest(self, file: IO[str], frames: int) -> None:
        """Write null for the frames after the last one, then the boxes and areas of all frames, and end the object."""
        file.write(", null" * (frames - self._end) + '], "bboxes": [')
        file.writelines(_listed(None if row is None else json.dumps(row[:4]) for row in self._dense(frames)))
        file.write('], "areas": [')
        file.writelines(_listed(None if row is None else str(row[4]) for row in self._dense(frames)))
        file.write("]}")

    def _dense(self, frames: int) -> Iterator[list[int] | None]:
        """Yield box and area of every frame; None where the object is not."""
        done = 0
        for start in range(0, len(self._rows), 6):
            index, *row = self._rows[start : start + 6]
            yield from (None for _ in range(index - done))
            yield row
            done = index + 1
        yield from (None for _ in range(frames - done))


def _listed(items: Iterator[str | None]) -> Iterator[str]:
    """Yield the parts of a JSON list without its brackets; None is null."""
    for number, item in enumerate(items):
        yield f"{', ' if number else ''}{item or 'null'}"
