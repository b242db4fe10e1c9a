"""Prompts: the masks that a user gives for a clip, by the name of their frame."""

import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.inference.objects import to_ids
from stm_fast.media.frames import Frame, FrameSource
from stm_fast.media.images import list_images
from stm_fast.media.masks import VOID, Colour, MaskFile, check_void, fit_mask, object_ids, read_mask
from stm_fast.media.notices import MediaNotice, notice
from stm_fast.tracking.correction import Correction
from stm_fast.tracking.correction_files import CorrectionFile, GivenCorrection
from stm_fast.tracking.hinted import Hinted
from stm_fast.tracking.prompt_names import by_name, frames_of

REPEATED = "they are followed already, and masks add objects but do not correct them"
BEFORE_MASKS = "comes before the first mask of an object: give it as a mask, not as a correction"
VOID_FOLLOWED = f"id {VOID} is followed as an object; void {VOID} ignores it"


def find_prompts(
    path: str | Path, frames: FrameSource, *, void: int | None = None, first: str | None = None
) -> dict[str, Path]:
    """Find the prompts in a file or folder, by frame.

    A mask in a folder belongs to the frame of its name. For a video, its number may have any number of digits; if no
    name is that of a frame, masks are matched by the number in their names. Masks before the first one that holds an
    object may be empty.

    Args:
        path: the mask of the first frame, or a folder of masks named like their frames.
        frames: the clip they belong to.
        void: pixels of this id, 1 to 255, are background.
        first: name of the frame that a single mask belongs to; None for the first of the clip.

    Returns:
        Masks by frame name, in the order of the frames.

    Raises:
        MediaError: there is no mask, it is itself one of the frames, no mask of the folder is named like a frame, none
            holds an object, or the first one that does differs in aspect from the frames.
        TypeError: `void` is not an integer.
        ValueError: `void` is out of range.
    """
    check_void(void)
    path = Path(path)
    if not path.exists():
        raise MediaError(f"mask {path} does not exist: a mask image or a folder of them is needed")
    if frames.has_file(path):
        raise MediaError(f"mask {path} is in the folder of frames, and would be used as one of them: move it elsewhere")
    if path.is_dir() and path.resolve() == Path(frames.path).resolve():
        raise MediaError(f"{path} is the folder of frames: a mask, or a folder of only masks, is needed")
    if path.is_dir():
        prompts = frames_of(_in_folder(path), path, frames)
    else:
        prompts = {first or frames.first_name: path}
        if path.stem not in prompts and path.stem.isdecimal():
            used = "the first frame" if first in (None, frames.first_name) else f"frame {first}"
            notice(f"{path} is used as the mask of {used}; give masks of other frames as a folder")
    _check_object(prompts.values(), path, frames, void)
    return prompts


def _in_folder(folder: Path) -> dict[str, Path]:
    masks = list_images(folder)
    if masks:
        return masks
    inside = next((each.name for each in sorted(folder.iterdir()) if each.is_dir() and list_images(each)), None)
    hint = f", but {inside} in it does: give that folder" if inside else ""
    raise MediaError(f"{folder} holds no image{hint}")


def _check_object(masks: Iterable[Path], given: Path, frames: FrameSource, void: int | None) -> None:
    """Raise `MediaError` unless a mask holds an object; read masks up to that one."""
    seen = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaNotice)  # given when the mask is used
        for path in masks:
            if object_ids(fit_mask(read_mask(path, {}, void=void), frames.size, path)):
                return
            seen += 1
    needed = "at least one object (a pixel that is not 0" + ("" if void is None else f" or void, {void}") + ")"
    if seen == 1:
        raise MediaError(f"{path} is empty: the first mask must hold {needed}")
    raise MediaError(f"all {seen} masks in {given} are empty: one must hold {needed}")


Prompt = MaskFile | NDArray[np.integer]
"""A mask that a user or a dataset gives: a file, or ids `(H, W)`."""


def is_one_mask(masks: Any) -> bool:
    """Return whether what `prompts_of` takes is a mask of one frame, which does not say itself of which."""
    if isinstance(masks, str | Path):
        return not Path(masks).is_dir()
    return masks is not None and not isinstance(masks, Mapping)


def prompts_of(
    masks: Any, frames: FrameSource, *, void: int | None = None, first: str | None = None
) -> dict[str, Prompt]:
    """Return prompts by frame name, from any form that `stm_fast.track` takes.

    Args:
        masks: a path, see `find_prompts`; ids `(H, W)` of the first frame; a mapping from frames, by number or name, to
            files or ids; a `Hinted`; or None for none.
        frames: the clip they belong to.
        void: pixels of this id are background.
        first: name of the frame that a single mask, or hints, belong to; None for the first of the clip.

    Raises:
        MediaError: see `find_prompts`.
        TypeError: a mask has the wrong type, or does not hold integers.
        ValueError: ids differ in size from the frames, no mask holds an object, a name is not that of a frame, or
            `void` is out of range.
    """
    if masks is None:
        return {}
    if isinstance(masks, Hinted):
        return _with_hints(masks, frames, void, first or frames.first_name)
    if isinstance(masks, str | Path):
        return dict(find_prompts(masks, frames, void=void, first=first))
    check_void(void)
    if not isinstance(masks, Mapping):
        masks = {first or frames.first_name: masks}
    found: dict[str, Prompt] = {
        name: Path(mask) if isinstance(mask, str | Path) else _as_ids(mask, frames.size, void)
        for name, mask in by_name(masks, frames, "masks").items()
    }
    if found and not any(not isinstance(mask, np.ndarray) or mask.any() for mask in found.values()):
        raise ValueError(
            "masks must hold at least one object, got only background; give None if the first correction shows the "
            "objects"
        )
    return found


def _with_hints(hinted: Hinted, frames: FrameSource, void: int | None, first: str) -> dict[str, Prompt]:
    """Return the prompts that are given beside hints, and the mask that these make of their frame."""
    prompts = prompts_of(hinted.masks, frames, void=void, first=first)
    given = prompts.get(first)
    if given is not None and not isinstance(given, np.ndarray):
        given = fit_mask(read_mask(given, {}, void=void), frames.size, given)
    return {**prompts, first: hinted.first_mask(frames, given, first)}


def _as_ids(mask: Any, size: tuple[int, int], void: int | None) -> NDArray[np.integer]:
    """Return the ids of an array or a tensor on the host, with void as background."""
    ids = to_ids(np.asarray(mask) if isinstance(mask, list) else mask, size, torch.device("cpu")).numpy()
    return np.asarray(ids if void is None else np.where(ids == void, 0, ids))


class PromptReader:
    """Reads prompts and corrections as their frames arrive.

    Prompts add objects: each is taken once, from the first mask that it is in. Corrections also change objects that are
    followed.

    Args:
        prompts: masks by frame name.
        size: of the frames; masks that differ in size are resized.
        void: pixels of this id in files, 1 to 255, are background.
        corrections: by frame name.
        colours: ids of colours so far, extended as masks are read.
    """

    def __init__(
        self,
        prompts: Mapping[str, Prompt],
        size: tuple[int, int],
        *,
        void: int | None = None,
        corrections: Mapping[str, GivenCorrection] | None = None,
        colours: dict[Colour, int] | None = None,
    ) -> None:
        check_void(void)
        self._prompts = prompts
        self._corrections = corrections or {}
        self._left, self._left_corrections = set(prompts), set(self._corrections)
        self._size = size
        self._void = void
        self._colours: dict[Colour, int] = {} if colours is None else colours
        self._repeated = self._left_out = False
        self.known: set[int] = set()

    def new_objects(self, frame: Frame) -> NDArray[np.integer] | None:
        """Return the ids `(H, W)` of objects that appear in this frame for the first time; None if there are none.

        Notices name the first mask that shows an object again, and a file with an object of id 255.
        """
        prompt = self._prompts.get(frame.name)
        if prompt is None:
            return None
        self._left.discard(frame.name)
        mask = prompt if isinstance(prompt, np.ndarray) else self._read(prompt)
        shown = set(object_ids(mask))
        new = shown - self.known
        if shown & self.known and not self._repeated:
            self._repeated = True
            again = ", ".join(map(str, sorted(shown & self.known)))
            notice(f"{_name_of(prompt, frame)} shows objects {again} again: {REPEATED}")
        if not new:
            return None
        if VOID in new and not isinstance(prompt, np.ndarray):
            notice(f"{prompt}: {VOID_FOLLOWED}")
        self.known |= new
        return np.where(np.isin(mask, list(new)), mask, 0).astype(mask.dtype)

    def correction(self, frame: Frame, seen: Collection[int]) -> Correction | None:
        """Return the correction of a frame; None if there is none.

        A notice names the first one that does not speak of an object that is seen in its frame. A folder with a mask
        for each object leaves the others out on purpose.

        Args:
            frame: after `new_objects` of the same frame.
            seen: ids of the objects in the mask of the frame.

        Raises:
            MediaError: a file cannot be used, or no mask has shown an object up to this frame.
        """
        given = self._corrections.get(frame.name)
        if given is None:
            return None
        self._left_corrections.discard(frame.name)
        if self._prompts and not self.known:
            raise MediaError(f"the correction of frame {frame.name} {BEFORE_MASKS}")
        is_folder = isinstance(given, CorrectionFile) and given.path.is_dir()
        if isinstance(given, CorrectionFile):
            given = given.read(self._size, self._colours, void=self._void)
        spoken = set(object_ids(np.asarray(given.mask)) if given.objects is None else given.objects)
        if not is_folder and (left := set(seen) - spoken) and not self._left_out:
            self._left_out = True
            ids = ", ".join(map(str, sorted(left)))
            notice(
                f"the correction of frame {frame.name} does not show objects {ids}, which are left as they are; one "
                f"that is not in the frame needs an empty mask of its own, {frame.name}/{min(left)}.png"
            )
        self.known |= spoken
        return given

    def finish(self) -> None:
        """Give a notice of masks and corrections without a frame, at the end of a clip."""
        for left, what in ((self._left, "masks"), (self._left_corrections, "corrections")):
            if left:
                notice(f"{len(left)} {what} were not used: the clip has no frames of their names, such as {min(left)}")

    def _read(self, path: MaskFile) -> NDArray[np.uint8]:
        return fit_mask(read_mask(path, self._colours, void=self._void), self._size, path)


def _name_of(prompt: Prompt, frame: Frame) -> str:
    return f"the mask of frame {frame.name}" if isinstance(prompt, np.ndarray) else str(prompt)
