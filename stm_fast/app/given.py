"""The masks that a user gives, on disk in the form that `stm-fast segment` takes.

`first_masks/<frame>.png` shows objects first; `corrections/<frame>/<id>.png` says where an object is in a frame, and an
empty one that it is not there. Frames are numbers here and names on disk.
"""

import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.files import discard_partial
from stm_fast.media.frames import FrameSource
from stm_fast.media.images import has_images
from stm_fast.media.masks import fit_mask, object_ids, read_mask, write_mask
from stm_fast.tracking.correction import Correction
from stm_fast.tracking.correction_files import MAX_OBJECT, CorrectionFile, corrections_of
from stm_fast.tracking.prompts import find_prompts

Ids = NDArray[np.uint8]


class GivenMasks:
    """The first masks and corrections of a project.

    Args:
        root: folder of the project.
        clip: the video.

    Raises:
        MediaError: a file there cannot be used.
    """

    def __init__(self, root: Path, clip: FrameSource) -> None:
        self.first_folder, self.corrections_folder = root / "first_masks", root / "corrections"
        self._clip = clip
        self._first: dict[int, Path] = {}
        self._corrections: dict[int, Path] = {}
        if has_images(self.first_folder):
            found = find_prompts(self.first_folder, clip)
            self._first = {self._number(name): path for name, path in found.items()}
        if self.corrections_folder.is_dir():
            for each in _visible(self.corrections_folder):
                if each.is_dir() and not has_images(each):  # a killed process may have left it
                    discard_partial(each)
                    with suppress(OSError):  # files of somebody else are in it
                        each.rmdir()
            if _visible(self.corrections_folder):
                files = corrections_of(self.corrections_folder, clip)
                self._corrections = {
                    self._number(name): each.path for name, each in files.items() if isinstance(each, CorrectionFile)
                }

    @property
    def first(self) -> list[int]:
        """Numbers of the frames with first masks, ascending."""
        return sorted(self._first)

    @property
    def corrected(self) -> list[int]:
        """Numbers of the frames with corrections, ascending."""
        return sorted(self._corrections)

    def correction_paths(self) -> dict[str, Path]:
        """Return the files and folders of corrections by frame name, as `stm_fast.track` takes them."""
        return {self._name(number): path for number, path in self._corrections.items()}

    def files(self, number: int) -> list[Path]:
        """Return the files that are given for a frame."""
        first = [self._first[number]] if number in self._first else []
        path = self._corrections.get(number)
        return first + ([] if path is None else CorrectionFile(path).files())

    def first_mask(self, number: int) -> Ids | None:
        """Return the first mask of a frame, with ids that no correction may have as background; None if it has none."""
        if (path := self._first.get(number)) is None:
            return None
        mask = fit_mask(read_mask(path, {}), self._clip.size, path)
        return np.where(mask > MAX_OBJECT, 0, mask)

    def correction(self, number: int) -> Correction | None:
        """Return the correction of a frame; None if it has none."""
        path = self._corrections.get(number)
        return None if path is None else CorrectionFile(path).read(self._clip.size, {})

    def corrected_objects(self, number: int) -> list[int]:
        """Return the ids that the correction of a frame speaks of, ascending."""
        path = self._corrections.get(number)
        if path is not None and path.is_dir():
            return sorted(int(file.stem) for file in CorrectionFile(path).files())
        correction = self.correction(number)
        return sorted(correction.objects or ()) if correction else []

    def objects(self) -> set[int]:
        """Return the ids of all objects that are given."""
        found = {each for number in self._corrections for each in self.corrected_objects(number)}
        for number in self._first:
            mask = self.first_mask(number)
            found.update(() if mask is None else object_ids(mask))
        return found

    def paint(self, number: int, result: Ids | None) -> Ids | None:
        """Return a frame's mask: what is given, over what was found.

        Args:
            number: of the frame.
            result: ids `(H, W)` that were found, in which the first mask is already; None for none.
        """
        mask = self.first_mask(number) if result is None else result
        correction = self.correction(number)
        if correction is None:
            return mask
        shown = np.asarray(correction.mask, np.uint8)
        painted = np.zeros_like(shown) if mask is None else mask.copy()
        painted[np.isin(painted, list(correction.objects or ()))] = 0
        return np.where(shown > 0, shown, painted)

    def add_first(self, number: int, mask: Ids) -> None:
        """Write the first mask of a frame; an empty one takes it away."""
        path = self.first_folder / f"{self._name(number)}.png"
        before = self._first.get(number, path)
        if not mask.any():
            before.unlink(missing_ok=True)
            self._first.pop(number, None)
            return
        write_mask(path, mask)
        self._first[number] = path
        if before != path:
            before.unlink(missing_ok=True)

    def correct(self, number: int, masks: Mapping[int, NDArray[np.bool_]]) -> None:
        """Say where objects are in a frame; what was said of others stays.

        Args:
            number: of the frame.
            masks: by id `(H, W)`; an empty one says that the object is not in the frame.
        """
        folder = self._folder_of(number)
        for object_id, mask in masks.items():
            write_mask(folder / f"{object_id}.png", np.where(mask, object_id, 0))
        self._corrections[number] = folder
        for other in self.corrected_objects(number):
            if other not in masks:
                self._take_pixels(folder / f"{other}.png", other, masks.values())

    def forget_correction(self, number: int, objects: Collection[int] | None = None) -> None:
        """Take back what a correction says of some objects, or all of it."""
        path = self._corrections[number]
        left = set() if objects is None else set(self.corrected_objects(number)) - set(objects)
        if left:
            folder = self._folder_of(number)
            for object_id in set(self.corrected_objects(number)) - left:
                (folder / f"{object_id}.png").unlink(missing_ok=True)
            return
        del self._corrections[number]
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _folder_of(self, number: int) -> Path:
        """Return the folder of a frame's correction, which may be a single file so far."""
        path = self._corrections.get(number)
        folder = self.corrections_folder / self._name(number)
        if path is None or path.is_dir():
            return path or folder
        correction = CorrectionFile(path).read(self._clip.size, {})
        for object_id in correction.objects or ():
            write_mask(folder / f"{object_id}.png", np.where(np.asarray(correction.mask) == object_id, object_id, 0))
        path.unlink()
        self._corrections[number] = folder
        return folder

    def _take_pixels(self, path: Path, object_id: int, masks: Collection[NDArray[np.bool_]]) -> None:
        """Take the pixels of masks from the correction of another object, so that corrections do not overlap."""
        before = read_mask(path, {}) > 0
        taken = np.any(list(masks), axis=0) & before
        if taken.any():
            write_mask(path, np.where(before & ~taken, object_id, 0))

    def _name(self, number: int) -> str:
        name = self._clip.name_of(number)
        assert name is not None
        return name

    def _number(self, name: str) -> int:
        number = self._clip.number_of(name)
        assert number is not None
        return number


def _visible(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if not each.name.startswith(".")]
