"""Frames, thumbnails and masks as the page gets them: encoded, and cached."""

import io
import re
import shutil
from collections import OrderedDict
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stm_fast.app.refusal import Refusal
from stm_fast.media.files import atomic_path, discard
from stm_fast.media.frames import FrameSource

THUMBNAIL_HEIGHT = 96
MAX_BYTES = 1 << 27
"""Maximum size of the encoded frames that are held."""
QUALITY, THUMBNAIL_QUALITY = 90, 80


class Pictures:
    """Encodes the frames of a video on request.

    Args:
        clip: the video; it is read by one thread at a time.
        folder: of the thumbnails, which stay on disk; those of another video in it are deleted.
        source: digest of the video.
    """

    def __init__(self, clip: FrameSource, folder: Path, source: str) -> None:
        self._clip, self._folder = clip, folder / source
        _delete_others(folder, source)
        self._reading, self._lock = Lock(), Lock()
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._held = 0

    def image(self, number: int) -> NDArray[np.uint8]:
        """Read a frame, RGB `(H, W, 3)`.

        Raises:
            MediaError: it cannot be read.
        """
        with self._reading:
            return self._clip.frame(number).image

    def frame(self, number: int) -> bytes:
        """Return a frame as JPEG.

        Raises:
            MediaError: it cannot be read.
        """
        with self._lock:
            if (found := self._cache.get(number)) is not None:
                self._cache.move_to_end(number)
                return found
        encoded = _jpeg(Image.fromarray(self.image(number)), QUALITY)
        with self._lock:
            self._held += len(encoded) - len(self._cache.pop(number, b""))
            self._cache[number] = encoded
            while self._held > MAX_BYTES and len(self._cache) > 1:
                self._held -= len(self._cache.popitem(last=False)[1])
        return encoded

    def thumbnail(self, number: int) -> bytes:
        """Return a small picture of a frame as JPEG.

        Raises:
            MediaError: the frame cannot be read.
            OSError: the thumbnail cannot be written.
        """
        path = self._folder / f"{number}.jpg"
        if path.is_file():
            return path.read_bytes()
        image = Image.fromarray(self.image(number))
        width = max(1, round(image.width * THUMBNAIL_HEIGHT / image.height))
        encoded = _jpeg(image.resize((width, THUMBNAIL_HEIGHT), Image.Resampling.BOX), THUMBNAIL_QUALITY)
        with self._lock, atomic_path(path) as partial:
            partial.write_bytes(encoded)
        return encoded


def mask_png(mask: NDArray[np.integer]) -> bytes:
    """Return ids `(H, W)` as a grey PNG of 8 bits."""
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def read_mask_png(content: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read ids `(H, W)` that the page sent.

    Args:
        content: a grey PNG of 8 bits.
        size: height and width that it must have.

    Raises:
        Refusal: it is something else.
    """
    wanted = f"a mask must be a grey PNG of 8 bits, {size[1]}×{size[0]}"
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.mode != "L" or (image.height, image.width) != size:
                raise Refusal(400, f"{wanted}, got {image.mode} {image.width}×{image.height}")
            return np.array(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Refusal(400, f"{wanted}, got something that cannot be read as one") from error


def _delete_others(folder: Path, source: str) -> None:
    """Delete the thumbnails of other videos, and those that earlier versions made of any video."""
    for each in folder.glob("*"):
        if re.fullmatch(r"[0-9]+\.jpg", each.name):
            discard(each)
        elif re.fullmatch("[0-9a-f]{16}", each.name) and each.name != source:
            shutil.rmtree(each, ignore_errors=True)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality)
    return file.getvalue()
