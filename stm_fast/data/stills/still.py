"""A still, and a set of them."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.images import read_image
from stm_fast.media.masks import read_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.media.pictures import open_image

Picture: TypeAlias = NDArray[np.uint8]

_NOISE = 16
"""Maximum difference between the channels of a grey image that a lossy format stored in colour."""


class Still(Protocol):
    """An image and the mask of its objects."""

    @property
    def name(self) -> str:
        """The still's name in its set, for messages."""

    def read(self) -> tuple[Picture, Picture]:
        """Read the image and its mask.

        Returns:
            The image as RGB uint8 `(H, W, 3)`, upright, and the mask as uint8 `(H, W)`: 0 is background, 255 is void,
            all else are ids of objects.

        Raises:
            MediaError: a file cannot be read, or image and mask differ in size; the message names both.
        """


class Stills(Protocol):
    """Stills by number, such as a list of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Still: ...


@dataclass(frozen=True)
class StillSet:
    """A named set of stills.

    Attributes:
        name: dataset and sets, for reports.
        stills: the stills, in the order of their names.
    """

    name: str
    stills: Stills

    def __len__(self) -> int:
        return len(self.stills)

    def __getitem__(self, index: int) -> Still:
        return self.stills[index]

    def __iter__(self) -> Iterator[Still]:
        return (self.stills[index] for index in range(len(self.stills)))


@dataclass(frozen=True)
class StillFiles:
    """A still that is an image file and a mask file.

    Notices about the mask are not given: a set of many thousand stills would give as many. Whoever opens the set reads
    one still with them.

    Attributes:
        name: see `Still`.
        image: image file.
        mask: mask file.
        read_mask: reads the mask file, `read_ids` or `read_salient`.
    """

    name: str
    image: Path
    mask: Path
    read_mask: Callable[[Path], Picture]

    def read(self) -> tuple[Picture, Picture]:
        """Read the image and its mask; see `Still.read`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MediaNotice)
            mask = self.read_mask(self.mask)
            return read_image_of(mask, self.image, self.mask), mask


def read_image_of(mask: Picture, image: Path, mask_name: object) -> Picture:
    """Read the image that belongs to a mask.

    The image is turned as its EXIF orientation says, unless the mask was drawn on the pixels as they are stored.

    Args:
        mask: uint8 `(H, W)`.
        image: image file.
        mask_name: name of the mask, for messages.

    Returns:
        RGB uint8 `(H, W, 3)`.

    Raises:
        MediaError: the image cannot be read, or has another size than the mask.
    """
    frame = read_image(image)
    if frame.shape[:2] == mask.shape:
        return frame
    if frame.shape[1::-1] == mask.shape:
        with open_image(image) as stored:
            if stored.size[::-1] == mask.shape:
                return np.asarray(stored.convert("RGB"))
    raise MediaError(
        f"{image} is {frame.shape[1]}×{frame.shape[0]} but its mask {mask_name} is {mask.shape[1]}×{mask.shape[0]}: an "
        "image and its mask must have the same size"
    )


def read_ids(path: Path) -> Picture:
    """Read a mask of ids; see `stm_fast.media.masks.read_mask`. 255 beside other ids is void, but alone is object 1.

    Raises:
        MediaError: the file cannot be read as a mask.
    """
    return read_mask(path)


def read_salient(path: Path) -> Picture:
    """Read the mask of a salient object as 1 where the object is.

    Such masks are grey with soft edges, and the grey is the degree to which a pixel belongs to the object: it is cut at
    one half. 255 is the object, not void. If there are no values besides 0 and 1, 1 is the object. In a mask with other
    colours than grey, such as the palette of DAVIS, every id of `read_mask` is the object.

    Raises:
        MediaError: the file cannot be read as a mask.
    """
    red, green, blue = np.moveaxis(read_image(path), 2, 0)
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    if (brightest - darkest).max() > _NOISE:
        return (read_mask(path) > 0).astype(np.uint8)
    inside: NDArray[np.bool_] = brightest > (127 if brightest.max() > 1 else 0)
    return inside.astype(np.uint8)
