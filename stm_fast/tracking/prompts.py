"""The masks that a user gives for a clip, by the name of their frame."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stm_fast.data.truth import read_labels, without_void
from stm_fast.errors import MediaError
from stm_fast.inference.objects import to_ids
from stm_fast.media.frames import Frame, FrameSource
from stm_fast.media.images import list_images
from stm_fast.media.masks import Colour, fit_mask, object_ids, read_mask
from stm_fast.media.notices import MediaNotice, notice

REPEATED = "they are followed already, and masks add objects but do not correct them"


def find_prompts(path: str | Path, frames: FrameSource) -> dict[str, Path]:
    """The masks of a user, by frame.

    Args:
        path: one mask, which is that of the first frame, or a folder of masks named like their frames.
        frames: the clip they belong to.

    Raises:
        MediaError: there is no mask, it is itself one of the frames, no mask of the folder is named like a frame, or
            the first one holds no object or has another aspect than the frames.
    """
    path = Path(path)
    if not path.exists():
        raise MediaError(f"mask {path} does not exist: a mask image or a folder of them is needed")
    if frames.has_file(path):
        raise MediaError(f"mask {path} lies among the frames and would be taken for one of them: move it elsewhere")
    prompts = _in_folder(path, frames) if path.is_dir() else {frames.first_name: path}
    first = next(iter(prompts.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaNotice)  # given when the mask is used
        objects = object_ids(fit_mask(read_mask(first, {}), frames.size, first))
    if not objects:
        raise MediaError(f"{first} is empty: the first mask must hold at least one object (a pixel that is not 0)")
    return prompts


def _in_folder(folder: Path, frames: FrameSource) -> dict[str, Path]:
    masks = list_images(folder)
    if not masks:
        raise MediaError(f"{folder} holds no mask image")
    prompts = {name: path for name, path in masks.items() if frames.may_hold(name)}
    if not prompts:
        raise MediaError(
            f"no mask in {folder} is named like a frame: frames are called {frames.first_name} and so on, "
            f"masks {next(iter(masks))} and so on"
        )
    if left := len(masks) - len(prompts):
        stray = next(name for name in masks if name not in prompts)
        notice(f"{left} masks in {folder} are named like no frame and were passed over, the first is {stray}")
    return prompts


Given = Path | NDArray[np.integer]
"""A mask file, or ids `(H, W)`."""


def given_masks(masks: Any, frames: FrameSource) -> dict[str, Given]:
    """Masks in any form that `stm_fast.track` takes, by frame name.

    Args:
        masks: a path, see `find_prompts`; ids `(H, W)` of the first frame; a mapping from frames, by number or name, to
            files or ids; or None for none.
        frames: the clip they belong to.

    Raises:
        MediaError: see `find_prompts`.
        TypeError: a mask is of another type, or does not hold integers.
        ValueError: ids have another size than the frames, or there is no frame of a mapping's name.
    """
    if masks is None:
        return {}
    if isinstance(masks, str | Path):
        return dict(find_prompts(masks, frames))
    if not isinstance(masks, Mapping):
        return {frames.first_name: _as_ids(masks, frames.size)}
    found: dict[str, Given] = {}
    for frame, mask in masks.items():
        name = f"{frame:05d}" if isinstance(frame, int) and frames.may_hold(f"{frame:05d}") else str(frame)
        if not frames.may_hold(name):
            raise ValueError(f"masks must be those of frames such as {frames.first_name}, got one of {frame!r}")
        found[name] = Path(mask) if isinstance(mask, str | Path) else _as_ids(mask, frames.size)
    return found


def _as_ids(mask: Any, size: tuple[int, int]) -> NDArray[np.integer]:
    """Ids of an array or a tensor, on the host."""
    ids = to_ids(np.asarray(mask) if isinstance(mask, list) else mask, size, torch.device("cpu"))
    return np.asarray(ids.numpy())


class Prompter:
    """Reads prompts as their frames come, each object once: from the first mask that it is in.

    Args:
        prompts: masks by frame name.
        size: of the frames; masks of another size are resized.
        void: id in mask files that is no object; None if there is none.
    """

    def __init__(self, prompts: Mapping[str, Given], size: tuple[int, int], *, void: int | None = None) -> None:
        self._prompts = prompts
        self._size = size
        self._void = void
        self._colours: dict[Colour, int] = {}
        self._repeated = False
        self.known: set[int] = set()

    def new_objects(self, frame: Frame) -> NDArray[np.integer] | None:
        """The objects that appear in this frame's mask for the first time, ids `(H, W)`; None if there are none.

        The first mask that shows an object again is told of in a notice.
        """
        path = self._prompts.get(frame.name)
        if path is None:
            return None
        mask = path if isinstance(path, np.ndarray) else self._read(path)
        shown = set(object_ids(mask))
        new = shown - self.known
        if shown & self.known and not self._repeated:
            self._repeated = True
            again = ", ".join(map(str, sorted(shown & self.known)))
            notice(f"{_called(path, frame)} shows objects {again} again: {REPEATED}")
        if not new:
            return None
        self.known |= new
        return np.where(np.isin(mask, list(new)), mask, 0).astype(mask.dtype)

    def _read(self, path: Path) -> NDArray[np.uint8]:
        labels = without_void(read_labels(path, self._colours, self._void), self._void)
        return fit_mask(labels, self._size, path)


def _called(given: Given, frame: Frame) -> str:
    return str(given) if isinstance(given, Path) else f"the mask of frame {frame.name}"
