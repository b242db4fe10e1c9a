"""CVAT for video 1.1: a track of polygons for each object, in one XML file."""

from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape, quoteattr

from stm_fast.export.options import ExportOptions
from stm_fast.export.polygons import Polygons, rounded
from stm_fast.export.result import Each, Result
from stm_fast.export.spools import Spools


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write the XML file. Each frame is a key frame, so that CVAT does not interpolate.

    Where an object is no longer found, its polygon before is marked as outside. Until all frames are read, the polygons
    are in a temporary file for each object.
    """
    polygons = Polygons(options.tolerance)
    last: dict[int, tuple[int, str]] = {}
    with Spools() as spools, target.open("w", encoding="utf-8", errors="xmlcharrefreplace") as file:
        for frame in result:
            for object_id, (index, points) in last.items():
                if index == frame.index - 1 and object_id not in frame.objects:
                    spools.append(object_id, _polygon(frame.index, points, outside=True))
            for object_id in frame.objects:
                ring = polygons.of(frame.mask == object_id)
                last[object_id] = frame.index, ";".join(rounded(corner) for corner in ring.tolist())
                spools.append(object_id, _polygon(*last[object_id], outside=False))
            each(frame)
        polygons.finish()
        _write_head(file, result, options)
        for object_id in spools:
            label = quoteattr(options.category(object_id))
            file.write(f'<track id="{object_id}" label={label} group_id="0" source="auto">\n')
            spools.copy(object_id, file)
            file.write("</track>\n")
        file.write("</annotations>\n")


def _polygon(index: int, points: str, *, outside: bool) -> str:
    return (
        f'<polygon frame="{index}" outside="{int(outside)}" occluded="0" keyframe="1" points="{points}" '
        'z_order="0"></polygon>\n'
    )


def _write_head(file: IO[str], result: Result, options: ExportOptions) -> None:
    height, width = result.size
    labels = "".join(
        f"<label><name>{escape(name)}</name><attributes></attributes></label>" for name in options.category_numbers
    )
    name = escape(result.title.encode("utf-8", "replace").decode())
    file.write(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task>'
        f"<name>{name}</name><size>{len(result)}</size><mode>interpolation</mode><start_frame>0</start_frame>"
        f"<stop_frame>{len(result) - 1}</stop_frame><labels>{labels}</labels><original_size><width>{width}</width>"
        f"<height>{height}</height></original_size></task></meta>\n"
    )
