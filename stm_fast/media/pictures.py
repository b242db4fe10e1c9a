"""One image file: which of its pages are frames, and their pixels in full depth."""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from stm_fast.errors import MediaError
from stm_fast.media.conversion import converted
from stm_fast.media.levels import Pixels
from stm_fast.media.notices import notice

SEQUENCES = frozenset({"AVIF", "GIF", "PNG", "TIFF", "WEBP"})  # a JPEG's other pictures are previews and depth maps
ORIENTATION, DESCRIPTION, SAMPLE_FORMAT, SUBFILE = 274, 270, 339, 254
REDUCED_OR_MASK = 1 | 4
SIGNED = 2
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)
"""Errors that Pillow raises for damaged files, and for files whose tags are missing or of the wrong type."""


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file without reading its pixels.

    Raises:
        MediaError: the file cannot be read, now or before it is closed.
    """
    with _as_media_errors(path), Image.open(path) as image:
        yield image


@contextmanager
def _as_media_errors(path: Path | str) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise MediaError(f"{path} is not an image, or cannot be read, such as one of 64 bits per pixel") from error
    except UNREADABLE as error:
        raise MediaError(f"{path} cannot be read as an image: {error}") from error


def frame_pages(image: Image.Image, path: Path | str) -> list[int]:
    """Return the numbers of the pages that are frames."""
    count = getattr(image, "n_frames", 1) if image.format in SEQUENCES else 1
    if count == 1:
        return [0]
    if image.format == "PNG" and image.info.get("default_image"):
        return list(range(1, count))
    if image.format != "TIFF":
        return list(range(count))
    kept = []
    for page in range(count):
        image.seek(page)
        if not _tag(image, SUBFILE, 0) & REDUCED_OR_MASK:
            kept.append(page)
    image.seek(0)
    return kept or [0]


def check_hyperstack(image: Image.Image, pages: int, path: Path) -> None:
    """Compare the pages with the number that ImageJ states: it writes most of a large stack outside the pages.

    Raises:
        MediaError: there are more images than pages.
    """
    described = dict(re.findall(r"^(images|channels)=(\d+)", str(_tag(image, DESCRIPTION, "")), re.MULTILINE))
    images, channels = int(described.get("images", 1)), int(described.get("channels", 1))
    if images > pages:
        raise MediaError(
            f"{path} holds {images} images in ImageJ's own form, of which only {pages} can be read: "
            "save it as a sequence of images"
        )
    if channels > 1 and pages > 1:
        notice(f"{path} has {channels} channels: each of its {pages} pages is taken as a frame, channels in turn")


def read_pixels(image: Image.Image, page: int, path: Path | str) -> Pixels:
    """Read a page upright and in full depth, as grey `(H, W)`, RGB or RGBA `(H, W, C)`."""
    with _as_media_errors(path):
        image.seek(page)
        stored = _stored(image)
        deep_colour = image.mode in {"RGB", "RGBA", "LA"} and ";16" in stored
        image.load()
        orientation = image.getexif().get(ORIENTATION)
        if deep_colour:
            pixels = _deep_colour(path) if getattr(image, "n_frames", 1) == 1 else _high_bytes(image)
        elif image.mode == "F":
            pixels = np.asarray(image)
        elif image.mode == "L" and _tag(image, SAMPLE_FORMAT, (1,))[0] == SIGNED:
            pixels = np.asarray(image).view(np.int8)
        elif image.mode.startswith("I"):
            pixels = _integers(image, stored)
        elif image.has_transparency_data:
            pixels = np.asarray(image.convert("RGBA"))
        else:
            pixels = np.asarray(image.convert("RGB"))
        return _upright(pixels, orientation)


def _upright(pixels: Pixels, orientation: int | None) -> Pixels:
    """Turn and mirror pixels by their EXIF orientation, where 1 is upright."""
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return pixels


def _integers(image: Image.Image, stored: str) -> Pixels:
    """Return pixels of Pillow's integer modes in the file's dtype: Pillow may hold 16 bits in 32."""
    pixels = np.asarray(image)
    if ";16" in stored and "S" in stored:
        return pixels.astype(np.int16)
    if ";16" in stored or image.format in {"PNG", "PPM"} or pixels.dtype.itemsize == 2:
        return pixels.astype(np.uint16)
    return pixels if "S" in stored else pixels.view(np.uint32)


def _stored(image: Image.Image) -> str:
    """Return Pillow's name for the pixel layout of the file, such as "RGB;16B"."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _high_bytes(image: Image.Image) -> Pixels:
    """Return RGB uint16 of a page of 16-bit colours, of which Pillow reads the high 8 bits."""
    return np.asarray(image.convert("RGB")).astype(np.uint16) * 257


def _deep_colour(path: Path | str) -> Pixels:
    """Return RGBA or RGB uint16 `(H, W, C)` of a 16-bit image, of which Pillow reads only the high bytes."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(Path(path).absolute())) as container:
            frame = next(container.decode(video=0))
            alpha = any(component.is_alpha for component in frame.format.components)
            return np.asarray(converted(frame, format="rgba64le" if alpha else "rgb48le").to_ndarray())
    except FFmpegError as error:
        raise MediaError(f"{path} cannot be read as an image: {error.strerror}") from error


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    return getattr(image, "tag_v2", {}).get(tag, default)


def shown_seconds(image: Image.Image) -> Fraction | None:
    """Return how long the current picture of an animation is shown, in seconds; None for pages.

    A duration of 10 ms or less counts as 100 ms, as in browsers.
    """
    if "duration" not in image.info and image.format not in {"GIF", "WEBP"}:
        return None
    milliseconds = Fraction(image.info.get("duration", 0)).limit_denominator(1000)
    return (milliseconds if milliseconds > 10 else Fraction(100)) / 1000
