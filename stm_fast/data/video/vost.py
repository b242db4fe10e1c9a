"""VOST."""

from functools import partial
from pathlib import Path

from stm_fast.data.clips import Dataset
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.video import set_folders
from stm_fast.data.video.set_folders import MASKS_FOLDER, find_set, is_set, list_sets

__all__ = ["is_set", "list_sets", "looks_like", "open_set"]


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open one set of VOST (Tokmakov et al., arXiv 2212.06200).

    The mask of the first frame is the prompt. Pixels whose object is hard to tell while it transforms are void.

    Args:
        layout: that of VOST.
        root: folder with `JPEGImages`, `Annotations` and `ImageSets`.
        subset: name of a list in `ImageSets`: train, val or test.

    Raises:
        MediaError: there is no such list, or clips of it have no frames or no masks; the message names all of them.
    """
    found = find_set(layout, root, subset)
    clips = found.faults().collect(found.names(), partial(found.clip, first_mask_only=True))
    return Dataset(f"{layout.title} {found.name}", clips, MASKS_FOLDER)


def looks_like(layout: VideoLayout, root: Path) -> bool:
    """Return whether a folder holds frames of clips, and lists of them."""
    return any((root / "ImageSets").glob("*.txt")) and set_folders.looks_like(layout, root)
