"""Find images and masks that belong together by their names."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from stm_fast.data.stills.still import Picture, StillFiles
from stm_fast.errors import MediaError
from stm_fast.media.images import IMAGE_SUFFIXES

MAX_DEPTH = 8
_MASKS_BESIDE = frozenset({".png"})


class Place(NamedTuple):
    """Where a set keeps images and masks; they belong together if their names differ in the ending only.

    If both are in one folder and have no mark, masks are PNG and images are not.

    Attributes:
        images: folder of the images below the dataset's folder.
        masks: folder of the masks.
        image_mark: end of an image's name before the suffix.
        mask_mark: end of a mask's name before the suffix.
        depth: number of levels of folders in which to look below these.
    """

    images: str
    masks: str
    image_mark: str = ""
    mask_mark: str = ""
    depth: int = 0


class _Form(NamedTuple):
    """What many pairs share: folders and endings of the image and of the mask."""

    images: Path
    image_ending: str
    masks: Path
    mask_ending: str


@dataclass
class Pairs:
    """Stills of image and mask files. Only their names are kept, which takes 100 bytes a still or so.

    Attributes:
        read_mask: see `StillFiles`.
        images_alone: number of images without a mask.
        masks_alone: number of masks without an image.
    """

    read_mask: Callable[[Path], Picture]
    images_alone: int = 0
    masks_alone: int = 0
    _names: list[str] = field(default_factory=list)
    _forms: list[_Form] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> StillFiles:
        name, form = self._names[index], self._forms[index]
        image, mask = form.images / f"{name}{form.image_ending}", form.masks / f"{name}{form.mask_ending}"
        return StillFiles(name, image, mask, self.read_mask)

    def add(self, root: Path, place: Place) -> int:
        """Add the pairs of a place in the order of their names, and return their number.

        Raises:
            MediaError: two images, or two masks, have the same name.
        """
        images_folder, masks_folder = root / place.images, root / place.masks
        beside = images_folder == masks_folder and place.image_mark == place.mask_mark
        image_suffixes = IMAGE_SUFFIXES - _MASKS_BESIDE if beside else IMAGE_SUFFIXES
        images = _endings(images_folder, place.image_mark, place.depth, image_suffixes)
        masks = _endings(masks_folder, place.mask_mark, place.depth, _MASKS_BESIDE if beside else IMAGE_SUFFIXES)
        names = sorted(images.keys() & masks.keys())
        if not names:
            return 0
        forms: dict[tuple[str, str], _Form] = {}
        for name in names:
            endings = images[name], masks[name]
            if endings not in forms:
                forms[endings] = _Form(images_folder, endings[0], masks_folder, endings[1])
            self._forms.append(forms[endings])
        self._names += names
        self.images_alone += len(images) - len(names)
        self.masks_alone += len(masks) - len(names)
        return len(names)


def _endings(folder: Path, mark: str, depth: int, suffixes: frozenset[str]) -> Mapping[str, str]:
    """Return the endings, mark and suffix, of the image files of a folder, by the rest of their names."""
    found: dict[str, str] = {}
    for name in _files(folder, depth):
        stem, dot, letters = name.rpartition(".")
        suffix = dot + letters
        if not stem.endswith(mark) or suffix.lower() not in suffixes:
            continue
        rest = stem.removesuffix(mark)
        if rest in found:
            raise MediaError(
                f"{rest}{found[rest]} and {name} in {folder} belong to the same pair: keep one of them, or put images "
                "into images and masks into masks"
            )
        found[rest] = mark + suffix
    return found


def _files(folder: Path, depth: int) -> Iterator[str]:
    """Yield the files of a folder, and of those below it, by their path relative to it; hidden ones are left out."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        inside = Path(parent).relative_to(folder).parts
        folders[:] = [] if len(inside) == depth else [each for each in folders if not each.startswith((".", "__"))]
        prefix = "".join(f"{each}/" for each in inside)
        yield from (prefix + file for file in files if not file.startswith("."))
