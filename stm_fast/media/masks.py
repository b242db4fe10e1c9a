"""Masks on disk: whatever people have is read as object ids, and palette PNGs are written."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.media.files import atomic_path
from stm_fast.media.notices import notice

MAX_ID = 255
MAX_FREE_COLOURS = 32
ASPECT_TOLERANCE = 0.02

Colour = tuple[int, int, int]


def _davis_palette() -> NDArray[np.uint8]:
    """The bits of an id, three at a time from the lowest, are the highest bits of red, green and blue."""
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> channel & 1) << (7 - bit)).astype(np.uint8)
        ids >>= 3
    return palette


DAVIS_PALETTE = _davis_palette()
_DAVIS_IDS: dict[Colour, int] = {(int(r), int(g), int(b)): i for i, (r, g, b) in enumerate(DAVIS_PALETTE)}


def read_mask(path: str | Path, colours: dict[Colour, int] | None = None) -> NDArray[np.uint8]:
    """Object ids of a mask image.

    - Palette images with colours hold ids, and so do grey ones; but where white (255, or 65535 in 16 bits) is all that
      is in a grey image beside 0, it is one object, id 1. A grey image of soft edges between black and white is cut at
      one half, with a notice. So is a palette image of black and white, whichever of them is index 0.
    - A colour image whose colours are all of the DAVIS palette holds the ids of that palette; a colour image of greys
      is read as a grey one. Up to 32 other colours are numbered from 1 in the order of their red, green and blue
      values, with a notice. Transparent pixels are background.

    Args:
        path: the image file.
        colours: ids given to free colours so far. It is extended, so that files read with the same dictionary agree.

    Returns:
        uint8 `(H, W)`, 0 is background.

    Raises:
        MediaError: the file cannot be read, has an id above 255 or too many colours to be a mask.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode == "P" and _has_colours(image):
                return np.array(image)
            if image.mode == "P" and _is_black_and_white(image):
                return _ids_of_values(np.array(image.convert("L")), path)
            if image.mode in {"1", "L", "P"} or image.mode.startswith("I"):
                return _ids_of_values(np.array(image), path)
            picture = np.array(image.convert("RGBA"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"{path} cannot be read as a mask: {error}") from error
    return _ids_of_colours(picture, path, {} if colours is None else colours)


def write_mask(path: str | Path, mask: NDArray[np.integer]) -> None:
    """Write object ids as a palette PNG with the DAVIS palette, index = id, atomically.

    Args:
        path: the PNG file.
        mask: integer ids `(H, W)`, 0 to 255.

    Raises:
        MediaError: an id does not fit into a palette.
        OSError: the file cannot be written.
    """
    if mask.size and (mask.min() < 0 or mask.max() > MAX_ID):
        raise MediaError(
            f"object ids {mask.min()} to {mask.max()} do not fit into {path}: a palette PNG holds 0 to {MAX_ID}"
        )
    image = Image.frombytes("P", mask.shape[::-1], mask.astype(np.uint8).tobytes())
    image.putpalette(DAVIS_PALETTE.tobytes())
    with atomic_path(path) as partial:
        image.save(partial, format="PNG")


def object_ids(mask: NDArray[np.integer]) -> tuple[int, ...]:
    """The ids that a mask contains, ascending, without the background."""
    return tuple(int(i) for i in np.unique(mask) if i != 0)


def fit_mask(mask: NDArray[np.uint8], size: tuple[int, int], path: str | Path) -> NDArray[np.uint8]:
    """A mask brought to the size of the frames by nearest neighbour, with a notice if it had another.

    Args:
        mask: ids `(H, W)`.
        size: height and width of the frames.
        path: where the mask is from, for messages.

    Raises:
        MediaError: the mask's aspect differs from the frames' by more than 2 %.
    """
    height, width = size
    if mask.shape == size:
        return mask
    seen = f"{path} is {mask.shape[1]}×{mask.shape[0]}"
    if abs(mask.shape[1] * height / (mask.shape[0] * width) - 1) > ASPECT_TOLERANCE:
        raise MediaError(f"{seen} but the frames are {width}×{height}: a mask must have the frames' aspect")
    notice(f"{seen} and was resized to the frames' {width}×{height}")
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _has_colours(image: Image.Image) -> bool:
    """Whether a palette image shows anything that is not grey."""
    palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
    used = np.unique(np.asarray(image))
    shown = palette[used[used < len(palette)]]
    return bool((shown != shown[:, :1]).any())


def _is_black_and_white(image: Image.Image) -> bool:
    """Whether a palette image shows black and white alone, whatever their indices are."""
    palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
    used = np.unique(np.asarray(image))
    shown = {tuple(colour) for colour in palette[used[used < len(palette)]].tolist()}
    return shown == {(0, 0, 0), (255, 255, 255)} and len(used) == 2


def _ids_of_values(values: NDArray[np.generic], path: str | Path) -> NDArray[np.uint8]:
    """Ids of a one-channel image, whose values are ids or levels of grey."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    levels, counts = np.unique(values, return_counts=True)
    white = 255 if values.dtype == np.uint8 else 65535
    if set(levels.tolist()) <= {0, white}:
        return np.asarray(values == white, np.uint8)
    if levels[0] < 0:
        raise MediaError(f"{path} has the value {int(levels[0])}: masks hold ids 0 to {MAX_ID}")
    between = levels[(levels > 0) & (levels < white)]
    counted = np.array_equal(between, np.arange(1, len(between) + 1))
    if levels[-1] == white and not counted and _share(levels, counts, {0, white}) > 0.8:
        notice(f"{path} has soft edges and was cut at one half: white is object 1")
        return (np.asarray(values, np.int64) * 2 > white).astype(np.uint8)
    if levels[-1] > MAX_ID:
        raise MediaError(
            f"{path} has object id {int(levels[-1])} among its {len(levels)} values: masks hold ids 0 to {MAX_ID}"
        )
    return values.astype(np.uint8)


def _share(levels: NDArray[np.generic], counts: NDArray[np.integer], chosen: set[int]) -> float:
    return float(counts[np.isin(levels, list(chosen))].sum() / counts.sum())


def _ids_of_colours(picture: NDArray[np.uint8], path: str | Path, numbered: dict[Colour, int]) -> NDArray[np.uint8]:
    """Ids of an RGBA picture `(H, W, 4)`."""
    rgb = np.where(picture[..., 3:] > 127, picture[..., :3], 0).astype(np.uint8)
    flat, inverse = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    colours: list[Colour] = [(int(r), int(g), int(b)) for r, g, b in flat]
    if all(colour in _DAVIS_IDS for colour in colours):
        ids = [_DAVIS_IDS[colour] for colour in colours]
    elif all(r == g == b for r, g, b in colours):
        return _ids_of_values(rgb[..., 0], path)
    else:
        ids = _number_colours(colours, path, numbered)
    table: NDArray[np.uint8] = np.array(ids, np.uint8)
    return table[inverse.reshape(rgb.shape[:2])]


def _number_colours(colours: list[Colour], path: str | Path, numbered: dict[Colour, int]) -> list[int]:
    new = [colour for colour in colours if any(colour) and colour not in numbered]
    if len(numbered) + len(new) > MAX_FREE_COLOURS:
        raise MediaError(
            f"{path} has {len(colours)} colours: a colour mask has those of the DAVIS palette, or at most "
            f"{MAX_FREE_COLOURS} of its own; save a palette or grey PNG of object ids (JPEG changes colours)"
        )
    numbered.update({colour: len(numbered) + i for i, colour in enumerate(new, 1)})
    if new:
        named = ", ".join(f"{colour} is object {numbered[colour]}" for colour in new)
        notice(f"{path} has colours outside the DAVIS palette, now numbered: {named}")
    return [numbered.get(colour, 0) for colour in colours]
