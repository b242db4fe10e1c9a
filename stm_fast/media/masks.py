"""Masks on disk: read object ids from any image, and write palette PNGs."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stm_fast.errors import MediaError
from stm_fast.media.files import atomic_path
from stm_fast.media.mask_colours import ids_of_colours, opaque_object
from stm_fast.media.mask_palettes import ids_of_palette
from stm_fast.media.mask_values import ids_of_values
from stm_fast.media.notices import notice
from stm_fast.media.palette import DAVIS_IDS, DAVIS_PALETTE, MAX_INDEX, Colour
from stm_fast.media.pictures import ORIENTATION, UNREADABLE

__all__ = [
    "DAVIS_PALETTE",
    "VOID",
    "Colour",
    "MaskFile",
    "StoredMask",
    "fit_mask",
    "object_ids",
    "read_labels",
    "read_mask",
    "without_void",
    "write_mask",
]

VOID = 255
"""Id that PASCAL VOC and most datasets give to pixels of no object."""
ASPECT_TOLERANCE = 0.02
_LOSSY = frozenset({"JPEG", "MPO"})


class StoredMask(Protocol):
    """A mask that is not an image file of its own, such as a run length in JSON or a picture for each object.

    Its `str()` says where it is stored, for messages.
    """

    def read(self) -> NDArray[np.uint8]:
        """Read the ids `(H, W)`: 0 is background, and void pixels have the id that the dataset gives them.

        Raises:
            MediaError: the mask cannot be read.
        """


MaskFile = Path | StoredMask
"""A mask on disk."""


def read_mask(
    path: str | MaskFile, colours: dict[Colour, int] | None = None, *, void: int | None = None
) -> NDArray[np.uint8]:
    """Read object ids from a mask image of any format and mode that Pillow reads.

    - The indices of a palette are ids if it is that of DAVIS (or PASCAL VOC), or its index 0 is background. A palette
      that was made for the picture, whose index 0 can be anything, is read by its colours.
    - Grey values are ids, but if white (255, or 65535 in 16 bits) is the only value besides 0, it is object 1. A
      palette of black and white is read in the same way, whichever is index 0.
    - A colour image whose colours are all in the DAVIS palette holds the ids of that palette. A colour image of greys
      is read as a grey one. Up to 32 other colours are numbered, with a notice, in the order of that palette: red,
      green and yellow before blue. Black is background. Without black, the colour that surrounds everything is
      background, with a notice.
    - Transparent pixels are background. If all others are black, or show a photograph, they are object 1.
    - Pixels of soft edges and of JPEG noise take the nearest colour of the flat areas beside them, with a notice. A
      black-and-white image is cut at one half.

    Args:
        path: the image file, or another stored mask, which holds ids.
        colours: ids of colours so far; extended, so that files read with the same dictionary agree.
        void: pixels of this id, 1 to 255, become background.

    Returns:
        uint8 `(H, W)`, 0 is background.

    Raises:
        MediaError: the file cannot be read, has an id above 255 or too many colours to be a mask.
        TypeError: `void` is not an integer.
        ValueError: `void` is out of range.
    """
    return without_void(read_labels(path, colours, void=void), void)


def read_labels(
    path: str | MaskFile, colours: dict[Colour, int] | None = None, *, void: int | None = None
) -> NDArray[np.uint8]:
    """Read a mask as `read_mask` does, but keep the id of void pixels.

    Args:
        path: the image file, or another stored mask.
        colours: ids of colours so far, extended.
        void: id of pixels that are no object, 1 to 255.

    Returns:
        uint8 `(H, W)`, 0 is background and `void` is void.

    Raises:
        MediaError: see `read_mask`.
        TypeError: `void` is not an integer.
        ValueError: `void` is out of range.
    """
    check_void(void)
    if not isinstance(path, str | Path):
        return path.read()
    known = {} if colours is None else colours
    try:
        with Image.open(path) as image:
            image.load()
            lossy = image.format in _LOSSY
            if (pages := getattr(image, "n_frames", 1)) > 1:
                notice(f"{path} holds {pages} pictures: the first is used as the mask")
            return _ids(_upright(image, path), path, known, void, lossy)
    except UNREADABLE as error:
        raise MediaError(f"{path} cannot be read as a mask: {error}") from error


def without_void(mask: NDArray[np.uint8], void: int | None) -> NDArray[np.uint8]:
    """Return a mask whose void pixels are background."""
    return mask if void is None else np.where(mask == void, 0, mask).astype(np.uint8)


def check_void(void: int | None) -> None:
    """Raise `TypeError` or `ValueError` unless `void` can be the id of pixels to ignore."""
    if void is None:
        return
    if not isinstance(void, int) or isinstance(void, bool):
        raise TypeError(f"void must be an integer, got {type(void).__name__}")
    if not 1 <= void <= MAX_INDEX:
        raise ValueError(f"void must be an id from 1 to {MAX_INDEX}, got {void}")


def write_mask(path: str | Path, mask: NDArray[np.integer]) -> None:
    """Write object ids as a palette PNG with the DAVIS palette, index = id, atomically.

    Args:
        path: the PNG file.
        mask: integer ids `(H, W)`, 0 to 255.

    Raises:
        MediaError: an id does not fit into a palette.
        OSError: the file cannot be written.
    """
    if mask.size and (mask.min() < 0 or mask.max() > MAX_INDEX):
        raise MediaError(
            f"object ids {mask.min()} to {mask.max()} do not fit into {path}: a palette PNG holds 0 to {MAX_INDEX}"
        )
    image = Image.frombytes("P", mask.shape[::-1], mask.astype(np.uint8).tobytes())
    image.putpalette(DAVIS_PALETTE.tobytes())
    with atomic_path(path) as partial:
        image.save(partial, format="PNG")


def object_ids(mask: NDArray[np.integer]) -> tuple[int, ...]:
    """Return the ids in a mask, ascending, without the background."""
    return tuple(int(i) for i in np.unique(mask) if i != 0)


def fit_mask(mask: NDArray[np.uint8], size: tuple[int, int], path: str | MaskFile) -> NDArray[np.uint8]:
    """Resize a mask to the frames by nearest neighbour, with a notice, if its size differs.

    Args:
        mask: ids `(H, W)`.
        size: height and width of the frames.
        path: the mask's file, for messages.

    Raises:
        MediaError: the mask's aspect differs from the frames' by more than 2 %.
    """
    height, width = size
    if mask.shape == size:
        return mask
    seen = f"{path} is {mask.shape[1]}×{mask.shape[0]}"
    if abs(mask.shape[1] * height / (mask.shape[0] * width) - 1) > ASPECT_TOLERANCE:
        turned = abs(mask.shape[0] * height / (mask.shape[1] * width) - 1) <= ASPECT_TOLERANCE
        raise MediaError(
            f"{seen} but the frames are {width}×{height}: a mask must have the frames' aspect"
            + (", turn it by 90 degrees" if turned else "")
        )
    notice(f"{seen} and was resized to the frames' {width}×{height}")
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _ids(
    image: Image.Image, path: str | Path, known: dict[Colour, int], void: int | None, lossy: bool
) -> NDArray[np.uint8]:
    """Return the ids of a picture by its mode."""
    if image.mode == "P":
        indices = np.array(image)
        if (mask := ids_of_palette(indices, _palette(image), path, known, void)) is not None:
            return mask
    if image.mode in {"1", "L", "F"} or image.mode.startswith("I"):
        values = np.array(image)
        if (clear := image.info.get("transparency")) is None:
            return ids_of_values(values, path, known, void=void, lossy=lossy)
        return _ids_of_grey(values, values != clear, path, known, void)
    if image.mode in {"LA", "La"}:
        grey = np.array(image.convert("LA"))
        return _ids_of_grey(grey[..., 0], _opaque(grey[..., 1], path), path, known, void)
    if image.mode not in {"P", "PA", "RGBA", "RGBa"} and "transparency" not in image.info:
        picture, opaque = np.array(image.convert("RGB")), np.ones(image.size[::-1], bool)
    else:
        rgba = np.array(image.convert("RGBA"))
        opaque = _opaque(rgba[..., 3], path)
        picture = np.where(opaque[..., None], rgba[..., :3], 0).astype(np.uint8)
    if (picture == picture[..., :1]).all() and image.mode != "P" and not _known_greys(picture, known):
        mask = _ids_of_grey(picture[..., 0], opaque, path, known, void, lossy)
        _notice_davis_greys(mask, picture[..., 0], path)
        return mask
    return ids_of_colours(picture, opaque, path, known, lossy=lossy)


def _known_greys(picture: NDArray[np.uint8], known: dict[Colour, int]) -> bool:
    """Return whether the greys of a colour picture are colours of earlier masks rather than values."""
    levels = [int(level) for level in np.unique(picture) if 0 < level < MAX_INDEX]
    return bool(levels) and all((level, level, level) in known for level in levels)


def _notice_davis_greys(mask: NDArray[np.uint8], greys: NDArray[np.uint8], path: str | Path) -> None:
    """Give a notice of greys that became ids but might be colours; greys of soft edges did not become ids."""
    for level in np.unique(mask[mask == greys]).tolist():
        if 0 < level < MAX_INDEX and (davis := DAVIS_IDS.get((level, level, level))):
            notice(f"{path} is grey: {level} is used as an id, though it is the colour of id {davis} of DAVIS")


def _ids_of_grey(
    values: NDArray[np.generic],
    opaque: NDArray[np.bool_],
    path: str | Path,
    known: dict[Colour, int],
    void: int | None,
    lossy: bool = False,
) -> NDArray[np.uint8]:
    """Return the ids of a grey picture, part of which may be transparent."""
    if not opaque.all() and opaque.any() and not values[opaque].any():
        return opaque_object(opaque, path)
    return ids_of_values(np.where(opaque, values, 0).astype(values.dtype), path, known, void=void, lossy=lossy)


def _opaque(alpha: NDArray[np.uint8], path: str | Path) -> NDArray[np.bool_]:
    """Return where a picture is opaque: where alpha is above half of its maximum."""
    top = int(alpha.max())
    if top == 0:
        notice(f"{path} is fully transparent, and was read as if it were opaque")
        return np.ones(alpha.shape, bool)
    if ((alpha > 0) & (alpha < top)).any():
        notice(f"{path} has soft transparency, which was cut at one half")
    return np.asarray(alpha > top / 2)


def _palette(image: Image.Image) -> NDArray[np.uint8]:
    """Return the palette of a picture as RGBA `(K, 4)`, with the transparency that its format states."""
    palette = np.array(image.getpalette("RGBA"), np.uint8).reshape(-1, 4)
    clear = image.info.get("transparency")
    if isinstance(clear, bytes):
        palette[: len(clear), 3] = np.frombuffer(clear, np.uint8)[: len(palette)]
    elif clear is not None and clear < len(palette):
        palette[clear, 3] = 0
    return palette


def _upright(image: Image.Image, path: str | Path) -> Image.Image:
    """Turn a picture as its EXIF orientation says."""
    if image.getexif().get(ORIENTATION, 1) not in range(2, 9):
        return image
    notice(f"{path} was turned as its EXIF orientation says")
    return ImageOps.exif_transpose(image)
