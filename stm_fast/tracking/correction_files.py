"""Corrections that a user gives for frames of a clip: files in a folder, or arrays by frame."""

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.inference.objects import to_ids
from stm_fast.media.frames import FrameSource
from stm_fast.media.images import list_images
from stm_fast.media.masks import VOID, Colour, check_void, fit_mask, object_ids, read_mask
from stm_fast.media.notices import MediaNotice, notice
from stm_fast.tracking.correction import Correction, as_correction, check_correction
from stm_fast.tracking.prompt_names import by_name, frames_of

MAX_OBJECT = VOID - 1
"""The largest id that a correction in a file may have."""


@dataclass(frozen=True)
class CorrectionFile:
    """A correction on disk: a mask, which speaks of the objects that it shows; or a folder with a mask for each object.

    In a folder, `3.png` shows object 3, with any value but 0; if it is empty, object 3 is not in the frame.
    """

    path: Path

    def read(
        self, size: tuple[int, int], colours: dict[Colour, int] | None = None, *, void: int | None = None
    ) -> Correction:
        """Read the correction.

        Args:
            size: height and width of the frames.
            colours: ids of colours so far, see `read_mask`.
            void: pixels of this id are no object.

        Returns:
            Ids of the frames' size, uint8.

        Raises:
            MediaError: a file cannot be read, is empty, differs in aspect from the frames, or shows an id above 254.
        """
        if self.path.is_dir():
            return self._of_folder(size, void)
        mask = fit_mask(read_mask(self.path, colours, void=void), size, self.path)
        shown = object_ids(mask)
        if not shown:
            raise MediaError(
                f"{self.path} is empty, and would correct nothing: to say that object 3 is not in the frame, give an "
                f"empty {self.path.stem}/3.png"
            )
        if shown[-1] > MAX_OBJECT:
            raise MediaError(
                f"{self.path} shows object {shown[-1]}, but corrections are of objects 1 to {MAX_OBJECT}: void "
                f"{shown[-1]} ignores it"
            )
        return Correction(mask, shown)

    def files(self) -> list[Path]:
        """Return the files of the correction, sorted."""
        return sorted(self._by_object().values()) if self.path.is_dir() else [self.path]

    def _of_folder(self, size: tuple[int, int], void: int | None) -> Correction:
        whole = np.zeros(size, np.uint8)
        files = self._by_object()
        for found, path in files.items():
            mask = _one_object(path, size, void)
            if (overlap := (mask & (whole > 0)).sum()) > 0:
                notice(f"{path} overlaps with objects of lower ids in {overlap} pixels, which it takes")
            whole[mask] = found
        return Correction(whole, tuple(files))

    def _by_object(self) -> dict[int, Path]:
        """Return the files of a folder by object, ascending."""
        files: dict[int, Path] = {}
        for name, path in list_images(self.path).items():
            found = int(name) if re.fullmatch("[0-9]{1,9}", name) else 0
            if not 1 <= found <= MAX_OBJECT:
                raise MediaError(f"{path} must be named after the object that it shows, 1 to {MAX_OBJECT}, as in 3.png")
            if found in files:
                raise MediaError(f"{path} and {files[found].name} show the same object: keep one of them")
            files[found] = path
        if not files:
            raise MediaError(f"{self.path} holds no image: a mask for each object, such as 3.png, is needed")
        return dict(sorted(files.items()))


GivenCorrection = CorrectionFile | Correction
"""A correction that a user gives: on disk, or as ids `(H, W)`."""


def corrections_of(given: Any, clip: FrameSource, *, void: int | None = None) -> dict[str, GivenCorrection]:
    """Return corrections by frame name, from any form that `stm_fast.track` takes.

    Args:
        given: a folder of masks named like their frames and of folders named like their frames, see `CorrectionFile`;
            or a mapping from frames, by number or name, to files, folders, ids `(H, W)` or `Correction`s.
        clip: the clip they belong to.
        void: pixels of this id are no object.

    Returns:
        Corrections by frame name, in the order of the frames.

    Raises:
        MediaError: a folder or file cannot be used, or is not named like a frame.
        TypeError, ValueError: an array cannot be used, or a frame is not in the clip.
    """
    check_void(void)
    if isinstance(given, Mapping):
        found = _in_mapping(given, clip, void)
    else:
        found = {name: CorrectionFile(path) for name, path in _in_folder(Path(given), clip).items()}
    _check(found.values(), clip.size, void)
    numbers = {name: clip.number_of(name) or 0 for name in found}
    return dict(sorted(found.items(), key=lambda item: numbers[item[0]]))


def _in_folder(folder: Path, clip: FrameSource) -> dict[str, Path]:
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise MediaError(f"corrections {folder} {problem}: a folder of masks named like their frames is needed")
    if folder.resolve() == Path(clip.path).resolve():
        raise MediaError(f"{folder} is the folder of frames: a folder of only corrections is needed")
    masks = list_images(folder)
    folders = {each.name: each for each in sorted(folder.iterdir()) if _is_visible_folder(each)}
    if both := sorted(masks.keys() & folders):
        raise MediaError(
            f"{masks[both[0]].name} and the folder {both[0]} in {folder} have the same name: keep one of them"
        )
    if not masks and not folders:
        raise MediaError(f"{folder} holds no image: masks named like their frames are needed")
    return frames_of(masks | folders, folder, clip, every=True)


def _is_visible_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _in_mapping(given: Mapping[Any, Any], clip: FrameSource, void: int | None) -> dict[str, GivenCorrection]:
    found: dict[str, GivenCorrection] = {}
    for name, correction in by_name(given, clip, "corrections").items():
        if isinstance(correction, str | Path):
            found[name] = CorrectionFile(Path(correction))
        else:
            found[name] = _checked(as_correction(correction), clip.size, void)
    return found


def _checked(correction: Correction, size: tuple[int, int], void: int | None) -> Correction:
    """Return a correction on the host, with void as background."""
    mask = np.asarray(to_ids(correction.mask, size, torch.device("cpu")).numpy())
    given = Correction(mask if void is None else np.where(mask == void, 0, mask), correction.objects)
    check_correction(given, size)
    return given


def _check(corrections: Iterable[GivenCorrection], size: tuple[int, int], void: int | None) -> None:
    """Read all files once, so that one that cannot be used is told of before anything is done."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaNotice)  # given when the correction is used
        for each in corrections:
            if isinstance(each, CorrectionFile):
                each.read(size, {}, void=void)


def _one_object(path: Path, size: tuple[int, int], void: int | None) -> NDArray[np.bool_]:
    """Read where the only object of a file is."""
    mask = fit_mask(read_mask(path, {}), size, path)
    shown = object_ids(mask)
    if len(shown) > 1:
        shown = tuple(each for each in shown if each != void)
    if len(shown) > 1:
        raise MediaError(f"{path} shows objects {', '.join(map(str, shown))}, but a file in such a folder shows one")
    return np.isin(mask, shown)
