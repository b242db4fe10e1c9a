"""GeoJSON: a feature for each object in each frame, with coordinates in pixels."""

from pathlib import Path

import numpy as np

from stm_fast.export.json_stream import json_object
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Each, Result
from stm_fast.media.outlines import Ring, outlines


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write the features as they come. x leads right and y down from the upper left corner of the frame.

    Lines around parts turn right as seen on the screen, which is to the left in the axes of a map.
    """
    height, width = result.size
    with target.open("w", encoding="utf-8") as file, json_object(file) as document:
        document.member("type", "FeatureCollection")
        document.member("video", {"name": result.title, "frames": len(result), "width": width, "height": height})
        with document.array("features") as append:
            for frame in result:
                for object_id in frame.objects:
                    mask = frame.mask == object_id
                    polygons = [
                        [_closed(ring) for ring in (outline.exterior, *outline.holes)]
                        for outline in outlines(mask, options.tolerance or 0.0)
                    ]
                    properties = {
                        "frame": frame.name,
                        "frame_index": frame.index,
                        "object": object_id,
                        "category": options.category(object_id),
                        "area": int(np.count_nonzero(mask)),
                    }
                    geometry = {"type": "MultiPolygon", "coordinates": polygons}
                    append({"type": "Feature", "properties": properties, "geometry": geometry})
                each(frame)


def _closed(ring: Ring) -> list[list[float]]:
    """Return the corners of a ring, the first one again at the end."""
    return [[_short(x), _short(y)] for x, y in (*ring.tolist(), ring[0].tolist())]


def _short(number: float) -> float:
    return int(number) if number == int(number) else round(number, 2)
