"""The frames of a result beside its masks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from stm_fast.export.result import MaskedFrame, Result

QUALITY = 95


def copying(result: Result, folder: Path) -> Iterator[MaskedFrame]:
    """Yield the frames of a result, and write each one's image into a folder: a copy of its file, or else a JPEG.

    Raises:
        MediaError: the video is not there, or its frames do not fit the masks.
        OSError: an image cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for frame in result.with_images():
        target = folder / result.image_name(frame.name)
        file = result.image_file(frame.name)
        if file is not None:
            shutil.copyfile(file, target)
        elif frame.image is not None:
            Image.fromarray(frame.image).save(target, format="JPEG", quality=QUALITY, subsampling=0)
        yield frame
