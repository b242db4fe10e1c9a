"""Read the masks of one clip in any order."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.media.masks import MaskFile, read_labels
from stm_fast.media.palette import DAVIS_IDS, WHITE, Colour, as_colours
from stm_fast.media.pictures import UNREADABLE


class ClipMasks:
    """The masks of one clip. An object has the same id in all of them, whichever is read first.

    Colours that are no ids of a palette are numbered in the first mask that has some. If the indices of that mask are
    ids, so are those of other masks with the same palette, which makes them fast to read.

    Args:
        files: masks by frame name, in the order of the frames.
        void: id of pixels that are no object, 1 to 255, or None.
    """

    def __init__(self, files: Mapping[str, MaskFile], void: int | None) -> None:
        self._files = files
        self._void = void

    def read(self, name: str) -> NDArray[np.uint8]:
        """Read the mask of a frame as `stm_fast.media.masks.read_labels` does.

        Raises:
            KeyError: the frame has no mask.
            MediaError: the mask cannot be read, or has colours to be numbered that the first mask does not have, so
                that their ids would depend on the order of reading.
        """
        path = self._files[name]
        if (indices := self._indices(path)) is not None:
            return indices
        known = dict(self._colours)
        mask = read_labels(path, known, void=self._void)
        strange = {colour: i for colour, i in known.items() if colour not in self._colours and colour != WHITE}
        if strange and not _are_indices(path, strange):
            raise MediaError(
                f"{path} has colours that the first mask of the clip does not have, such as {min(strange)}: save "
                "masks as ids, with the palette of DAVIS"
            )
        return mask

    def _indices(self, path: MaskFile) -> NDArray[np.uint8] | None:
        """Return the indices of a mask whose palette is that of the first one, if they are ids there."""
        palette = self._palette
        if palette is None or not isinstance(path, Path):
            return None
        with _as_mask(path) as image:
            image.load()
            return np.array(image) if _plain_palette(image) == palette else None

    @property
    def _colours(self) -> Mapping[Colour, int]:
        return self._first[0]

    @property
    def _palette(self) -> bytes | None:
        return self._first[1]

    @cached_property
    def _first(self) -> tuple[Mapping[Colour, int], bytes | None]:
        """The ids of colours in the first mask that has some, and its palette if its indices are ids."""
        known: dict[Colour, int] = {}
        for path in self._files.values():
            mask = read_labels(path, known, void=self._void)
            if known and isinstance(path, Path):
                with _as_mask(path) as image:
                    palette = _plain_palette(image)
                    return known, palette if palette and np.array_equal(np.array(image), mask) else None
        return known, None


@contextmanager
def _as_mask(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except UNREADABLE as error:
        raise MediaError(f"{path} cannot be read as a mask: {error}") from error


def _plain_palette(image: Image.Image) -> bytes | None:
    """Return the palette of a picture that is neither transparent nor turned nor animated; None for any other."""
    special = {"transparency", "exif"} & image.info.keys() or getattr(image, "n_frames", 1) > 1
    return image.palette.tobytes() if image.mode == "P" and image.palette and not special else None


def _are_indices(path: MaskFile, ids: Mapping[Colour, int]) -> bool:
    """Return whether the ids of colours are those of the DAVIS palette, or indices of the file's own palette."""
    others = {colour: i for colour, i in ids.items() if DAVIS_IDS.get(colour) != i}
    if not others or not isinstance(path, Path):
        return not others
    with _as_mask(path) as image:
        colours = as_colours(np.array(image.getpalette() or [], np.uint8).reshape(-1, 3))
    return all(i < len(colours) and colours[i] == colour for colour, i in others.items())
