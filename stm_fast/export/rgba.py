"""A PNG of each frame, transparent where no object is."""

from pathlib import Path

from PIL import Image

from stm_fast.export.cutouts import cutouts
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Each, Result


def write(result: Result, target: Path, options: ExportOptions, each: Each) -> None:
    """Write `<frame>.png`, RGBA of 8 bits with straight alpha; see `cutouts`."""
    for frame, picture in cutouts(result, options):
        Image.fromarray(picture).save(target / f"{frame.name}.png", format="PNG")
        each(frame)
