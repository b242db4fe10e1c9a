"""SA-V, its sets val and test."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.clips import Clip, Dataset, SetSummary
from stm_fast.data.faults import Faults
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.video.object_masks import ObjectMasks, flatten
from stm_fast.data.video.set_folders import read_list
from stm_fast.errors import MediaError
from stm_fast.media.images import has_images, list_images
from stm_fast.media.masks import VOID, read_mask
from stm_fast.media.notices import notice

FRAMES, MASKS = "JPEGImages_24fps", "Annotations_6fps"


@dataclass(frozen=True)
class SavMask(ObjectMasks):
    """The mask of a frame: a black and white picture for each object.

    Attributes:
        files: pictures by id.
    """

    files: Mapping[int, Path]

    def __str__(self) -> str:
        return " and ".join(map(str, self.files.values()))

    def objects(self) -> Mapping[int, NDArray[np.bool_]]:
        """Read the mask `(H, W)` of each object that has a picture, by its id; masks may overlap.

        Raises:
            MediaError: a picture cannot be read, or they differ in size.
        """
        masks = {object_id: read_mask(file) > 0 for object_id, file in self.files.items()}
        if len({mask.shape for mask in masks.values()}) > 1:
            raise MediaError(f"{self} differ in size")
        return masks

    def read(self) -> NDArray[np.uint8]:
        """Read the ids `(H, W)`; see `stm_fast.data.video.object_masks.flatten`."""
        masks = self.objects()
        height, width = next(iter(masks.values())).shape
        return flatten(masks, (height, width))


@dataclass(frozen=True)
class _SetFolder:
    """`sav_val` or `sav_test`."""

    folder: Path
    name: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        file = self.folder / f"{self.name}.txt"
        if file.is_file():
            return read_list(file)
        masks = self.folder / MASKS
        return tuple(sorted(path.name for path in masks.iterdir() if path.is_dir())) if masks.is_dir() else ()

    def clip(self, name: str) -> Clip | str:
        """Return the clip, or what it lacks."""
        frames, masks = self.folder / FRAMES / name, self.folder / MASKS / name
        if not has_images(frames):
            return f"without frames in {frames.parent}"
        there = sorted(masks.iterdir()) if masks.is_dir() else []
        objects = [path for path in there if path.name.isdecimal() and path.is_dir()]
        by_frame: dict[str, dict[int, Path]] = {}
        for folder in objects:
            for frame, file in list_images(folder).items():
                by_frame.setdefault(frame, {})[int(folder.name) + 1] = file
        if not by_frame:
            return f"without masks in {masks.parent}"
        if max(map(max, by_frame.values())) >= VOID:
            return f"with more than {VOID - 1} objects"
        truth = {frame: SavMask(by_frame[frame]) for frame in sorted(by_frame)}
        return Clip(name, frames, truth, truth, frozenset(truth), void=VOID)


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open SA-V val or test (Ravi et al., arXiv 2408.00714).

    Frames come 24 times a second, masks 6 times; results are the masks of the frames with masks. Object 000 has id 1,
    object 001 has id 2, and so on. Objects may overlap, for instance a hand and its person: a pixel of several objects
    belongs to the smallest, with a notice. An object is followed from the first mask that shows it.

    Args:
        layout: that of SA-V.
        root: the folder `sav_val` or `sav_test`, or the folder that holds them.
        subset: sav_val or sav_test.

    Raises:
        MediaError: there is no such set, or clips have no frames or no masks; the message names all of them.
    """
    found = _find(root, subset)
    if found is None:
        there = ", ".join(each.name for each in _sets(root)) or "none"
        raise layout.lack(f"{root} has no set {subset}: there are {there}", root, subset)
    if not found.names:
        raise layout.lack(f"{found.folder / MASKS} holds no clip", root, found.name)
    remedy = f"put them there, or list the complete clips in {found.folder / found.name}.txt"
    clips = Faults(f"{layout.title} in {found.folder}", remedy, layout.needed(root, found.name)).collect(
        found.names, partial(_SetFolder.clip, found)
    )
    notice(f"objects of {layout.title} may overlap: a pixel of several objects belongs to the smallest of them")
    return Dataset(f"{layout.title} {found.name}", clips, PurePath(MASKS))


def list_sets(layout: VideoLayout, root: Path) -> list[SetSummary]:
    """List the sets in a folder.

    Raises:
        MediaError: there is none.
    """
    found = []
    for each in _sets(root):
        there = [
            (each.folder / FRAMES / name).is_dir() and (each.folder / MASKS / name).is_dir() for name in each.names
        ]
        found.append(SetSummary(each.name, len(each.names), there.count(False), any(there)))
    if not found:
        raise layout.lack(f"{root} holds no folder with {FRAMES}, such as sav_val", root)
    return found


def is_set(layout: VideoLayout, root: Path) -> bool:
    """Return whether a folder is a single set."""
    return (root / FRAMES).is_dir()


def looks_like(layout: VideoLayout, root: Path) -> bool:
    """Return whether a folder is or holds sets."""
    return bool(_sets(root))


def _find(root: Path, subset: str | None) -> _SetFolder | None:
    return next((each for each in _sets(root) if subset in {None, each.name}), None)


def _sets(root: Path) -> list[_SetFolder]:
    """Return the sets: the folder itself, or those in it."""
    if not root.is_dir():
        return []
    folders = [root.resolve()] if (root / FRAMES).is_dir() else sorted(root.iterdir())
    return [_SetFolder(each, each.name) for each in folders if (each / FRAMES).is_dir()]
