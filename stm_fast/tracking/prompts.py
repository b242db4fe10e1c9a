"""The masks that a user gives for a clip, by the name of their frame."""

import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.inference.objects import to_ids
from stm_fast.media.frames import Frame, FrameSource
from stm_fast.media.images import list_images
from stm_fast.media.masks import VOID, Colour, check_void, fit_mask, object_ids, read_mask
from stm_fast.media.notices import MediaNotice, notice
from stm_fast.tracking.prompt_names import frames_of

REPEATED = "they are followed already, and masks add objects but do not correct them"
VOID_FOLLOWED = f"id {VOID} is followed as an object; void {VOID} ignores it"


def find_prompts(path: str | Path, frames: FrameSource, *, void: int | None = None) -> dict[str, Path]:
    """Find the masks of a user, by frame.

    A mask in a folder is that of the frame of its name. Where the frames are those of a video any number of digits will
    do, and where no name is that of a frame, the number in it will. Masks before the first that holds an object may be
    blank.

    Args:
        path: one mask, which is that of the first frame, or a folder of masks named like their frames.
        frames: the clip they belong to.
        void: pixels of this id, 1 to 255, are background.

    Returns:
        Masks by frame name, in the order of the frames.

    Raises:
        MediaError: there is no mask, it is itself one of the frames, no mask of the folder is named like a frame, none
            holds an object, or the first that does has another aspect than the frames.
        TypeError: `void` is not an integer.
        ValueError: `void` is out of range.
    """
    check_void(void)
    path = Path(path)
    if not path.exists():
        raise MediaError(f"mask {path} does not exist: a mask image or a folder of them is needed")
    if frames.has_file(path):
        raise MediaError(f"mask {path} lies among the frames and would be taken for one of them: move it elsewhere")
    if path.is_dir() and path.resolve() == Path(frames.path).resolve():
        raise MediaError(f"{path} is the folder of frames: a mask, or a folder of masks alone, is needed")
    if path.is_dir():
        prompts = frames_of(_in_folder(path), path, frames)
    else:
        prompts = {frames.first_name: path}
        if path.stem != frames.first_name and path.stem.isdecimal():
            notice(f"{path} is taken for the mask of the first frame; those of others are given as a folder")
    _check_object(prompts.values(), path, frames, void)
    return prompts


def _in_folder(folder: Path) -> dict[str, Path]:
    masks = list_images(folder)
    if masks:
        return masks
    inside = next((each.name for each in sorted(folder.iterdir()) if each.is_dir() and list_images(each)), None)
    hint = f", but {inside} in it does: give that folder" if inside else ""
    raise MediaError(f"{folder} holds no mask image{hint}")


def _check_object(masks: Iterable[Path], given: Path, frames: FrameSource, void: int | None) -> None:
    """Raise `MediaError` unless a mask holds an object; they are read up to that one."""
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


Prompt = Path | NDArray[np.integer]
"""A mask that a user gives: a file, or ids `(H, W)`."""


def prompts_of(masks: Any, frames: FrameSource, *, void: int | None = None) -> dict[str, Prompt]:
    """Masks in any form that `stm_fast.track` takes, by frame name.

    Args:
        masks: a path, see `find_prompts`; ids `(H, W)` of the first frame; a mapping from frames, by number or name, to
            files or ids; or None for none.
        frames: the clip they belong to.
        void: pixels of this id are background.

    Raises:
        MediaError: see `find_prompts`.
        TypeError: a mask is of another type, or does not hold integers.
        ValueError: ids have another size than the frames or hold no object, there is no frame of a mapping's name, or
            `void` is out of range.
    """
    if masks is None:
        return {}
    if isinstance(masks, str | Path):
        return dict(find_prompts(masks, frames, void=void))
    check_void(void)
    if not isinstance(masks, Mapping):
        masks = {frames.first_name: masks}
    found: dict[str, Prompt] = {}
    for frame, mask in masks.items():
        name = f"{frame:05d}" if isinstance(frame, Integral) and frames.may_hold(f"{frame:05d}") else str(frame)
        if not frames.may_hold(name):
            raise ValueError(f"masks must be those of frames such as {frames.first_name}, got one of {frame!r}")
        if name in found:
            raise ValueError(f"masks must hold one of each frame, got two of {name}")
        found[name] = Path(mask) if isinstance(mask, str | Path) else _as_ids(mask, frames.size, void)
    if found and not any(isinstance(mask, Path) or mask.any() for mask in found.values()):
        raise ValueError(
            "masks must hold at least one object, got background alone; None is for videos whose objects the first "
            "correction shows"
        )
    return found


def _as_ids(mask: Any, size: tuple[int, int], void: int | None) -> NDArray[np.integer]:
    """Ids of an array or a tensor, on the host; void is background."""
    ids = to_ids(np.asarray(mask) if isinstance(mask, list) else mask, size, torch.device("cpu")).numpy()
    return np.asarray(ids if void is None else np.where(ids == void, 0, ids))


class Prompter:
    """Reads prompts as their frames come, each object once: from the first mask that it is in.

    Args:
        prompts: masks by frame name.
        size: of the frames; masks of another size are resized.
        void: pixels of this id in files, 1 to 255, are background.
    """

    def __init__(self, prompts: Mapping[str, Prompt], size: tuple[int, int], *, void: int | None = None) -> None:
        check_void(void)
        self._prompts = prompts
        self._left = set(prompts)
        self._size = size
        self._void = void
        self._colours: dict[Colour, int] = {}
        self._repeated = False
        self.known: set[int] = set()

    def new_objects(self, frame: Frame) -> NDArray[np.integer] | None:
        """The objects that appear in this frame's mask for the first time, ids `(H, W)`; None if there are none.

        A notice names the first mask that shows an object again, and an object of id 255 in a file.
        """
        path = self._prompts.get(frame.name)
        if path is None:
            return None
        self._left.discard(frame.name)
        mask = path if isinstance(path, np.ndarray) else self._read(path)
        shown = set(object_ids(mask))
        new = shown - self.known
        if shown & self.known and not self._repeated:
            self._repeated = True
            again = ", ".join(map(str, sorted(shown & self.known)))
            notice(f"{_called(path, frame)} shows objects {again} again: {REPEATED}")
        if not new:
            return None
        if VOID in new and isinstance(path, Path):
            notice(f"{path}: {VOID_FOLLOWED}")
        self.known |= new
        return np.where(np.isin(mask, list(new)), mask, 0).astype(mask.dtype)

    def finish(self) -> None:
        """Tell of masks whose frames have not come, at the end of a clip."""
        if self._left:
            first = min(self._left)
            notice(
                f"{len(self._left)} masks were not used, for the clip has no frame of their names: {first} and so on"
            )

    def _read(self, path: Path) -> NDArray[np.uint8]:
        return fit_mask(read_mask(path, self._colours, void=self._void), self._size, path)


def _called(given: Prompt, frame: Frame) -> str:
    return str(given) if isinstance(given, Path) else f"the mask of frame {frame.name}"
