"""MOSE, v1 and v2."""

from pathlib import Path

from stm_fast.data.clips import Dataset, Submission
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.video.set_folders import MASKS_FOLDER, find_set, is_set, list_sets, looks_like

__all__ = ["is_set", "list_sets", "looks_like", "open_set"]

SUBMISSION = Submission("the folders of clips in {masks}, zipped without a folder around them")


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open one set of MOSE (Ding et al., arXiv 2302.01872; v2: arXiv 2508.05630).

    Both versions have `train`, whose frames all have masks, and `valid`, with only the masks in which objects appear.

    Args:
        layout: that of MOSE.
        root: see `stm_fast.data.video.set_folders.find_set`.
        subset: see `find_set`.

    Raises:
        MediaError: there is no such set, or clips have no frames or no masks; the message names all of them.
    """
    found = find_set(layout, root, subset)
    clips = found.faults().collect(found.names(), found.clip)
    return Dataset(f"{layout.title} {found.name}", clips, MASKS_FOLDER, SUBMISSION)
