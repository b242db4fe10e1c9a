"""The formats of exports: their names, what each takes and writes, and what is lost."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from stm_fast.export.options import ExportOptions

if TYPE_CHECKING:
    from stm_fast.export.result import Each, Result


@dataclass(frozen=True)
class Format:
    """A format of an export.

    Attributes:
        name: of the format.
        module: in `stm_fast.export`, whose function `write` writes it.
        target: name of its file, or of its folder if it has no suffix.
        about: what is written.
        read_by: what reads it.
        lost: what is not in it.
        takes: names of `ExportOptions` that it takes.
        with_images: name of the folder that is written instead of a file, if images are.
        needs_frames: whether it cannot be written without the video.
    """

    name: str
    module: str
    target: str
    about: str
    read_by: str
    lost: str
    takes: frozenset[str] = frozenset()
    with_images: str | None = None
    needs_frames: bool = False

    def default_target(self, options: ExportOptions) -> str:
        """Return the name of the file or folder that is written."""
        return self.with_images if self.with_images and options.images else self.target

    def is_folder(self, options: ExportOptions) -> bool:
        """Return whether a folder is written."""
        return not Path(self.default_target(options)).suffix

    def write(self, result: "Result", target: Path, options: ExportOptions, each: "Each") -> None:
        """Write a result into an empty folder or a new file."""
        import_module(f"stm_fast.export.{self.module}").write(result, target, options, each)


_POLYGONS = frozenset({"categories", "tolerance"})

FORMATS = {
    each.name: each
    for each in (
        Format(
            "coco",
            "coco",
            "instances_default.json",
            "COCO instances: a run length, box and area for each object in each frame, with its id as `track_id`",
            "pycocotools, CVAT, Datumaro (with `--images`), FiftyOne, Detectron2 (bitmask), MMDetection",
            "nothing",
            frozenset({"categories", "images", "image_root"}),
            with_images="coco",
        ),
        Format(
            "ytvis",
            "ytvis",
            "ytvis.json",
            "YouTube-VIS: an annotation for each object, with its run length, box and area in every frame",
            "the YouTube-VIS API, MMTracking, Mask2Former's video code",
            "nothing",
            frozenset({"categories", "image_root"}),
        ),
        Format(
            "cvat-video",
            "cvat",
            "cvat.xml",
            "CVAT for video 1.1: a track of polygons for each object, with a key frame in each frame",
            "CVAT, Datumaro",
            "up to `--tolerance` at outlines; parts and holes are joined by lines without width",
            _POLYGONS,
        ),
        Format(
            "labelstudio",
            "label_studio",
            "labelstudio.json",
            "Label Studio: a task for each frame, with a brush mask for each object as a prediction",
            "Label Studio",
            "nothing",
            frozenset({"categories", "image_root"}),
        ),
        Format(
            "geojson",
            "geojson",
            "polygons.geojson",
            "GeoJSON: a feature for each object in each frame, a multipolygon with holes, in pixels",
            "QGIS, GeoPandas, Shapely, QuPath",
            "nothing, or up to `--tolerance` at outlines",
            _POLYGONS,
        ),
        Format(
            "yolo-seg",
            "yolo",
            "yolo-seg",
            "YOLO segmentation: `labels/<frame>.txt` with a polygon for each object, and `data.yaml`",
            "Ultralytics, Roboflow",
            "ids of objects; up to `--tolerance` at outlines; parts and holes are joined by lines without width",
            _POLYGONS | {"images"},
        ),
        Format(
            "mot",
            "mot",
            "mot.txt",
            "MOTChallenge: a line for each object in each frame, with its box",
            "TrackEval, py-motmetrics, CVAT",
            "masks: only boxes are kept; categories",
        ),
        Format(
            "binary-png",
            "pngs",
            "binary",
            "`<frame>.png` for each frame: 255 where an object is, else 0",
            "anything that reads images",
            "which object it is",
        ),
        Format(
            "object-png",
            "object_pngs",
            "objects",
            "`<id>/<frame>.png` for each object and frame: 255 where it is, else 0",
            "anything that reads images",
            "nothing",
        ),
        Format(
            "soft-png",
            "soft_pngs",
            "soft",
            "`<id>/<frame>.png` for each object and frame: its probability, as grey of 8 or 16 bits",
            "compositing, anything that reads 16-bit PNG",
            "digits beyond 8 or 16 bits; needs a run with `--soft`",
            frozenset({"bits"}),
        ),
        Format(
            "rgba-png",
            "rgba",
            "rgba",
            "`<frame>.png` for each frame: the picture, transparent where no object is",
            "Blender, After Effects, Nuke, anything that reads PNG",
            "the background; which object it is",
            frozenset({"soft"}),
            needs_frames=True,
        ),
        Format(
            "alpha-prores",
            "alpha_prores",
            "alpha.mov",
            "ProRes 4444 in QuickTime, 10 bits of colour, with an alpha channel",
            "Final Cut Pro, Premiere, DaVinci Resolve, After Effects, ffmpeg",
            "the background; which object it is; compressed",
            frozenset({"soft", "fps"}),
            needs_frames=True,
        ),
        Format(
            "alpha-vp9",
            "alpha_vp9",
            "alpha.webm",
            "VP9 in WebM with an alpha channel",
            "Chrome, Firefox, OBS; ffmpeg with `-c:v libvpx-vp9`",
            "the background; which object it is; compressed, half the resolution of colour",
            frozenset({"soft", "fps"}),
            needs_frames=True,
        ),
    )
}
"""Formats by name."""
