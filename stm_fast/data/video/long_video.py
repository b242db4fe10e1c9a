"""Long Videos."""

from dataclasses import replace
from pathlib import Path

from stm_fast.data.clips import Clip, Dataset
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.video.set_folders import MASKS_FOLDER, SetFolder, find_set, is_set, list_sets, looks_like

__all__ = ["is_set", "list_sets", "looks_like", "open_set"]


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open Long Videos (Liang et al., NeurIPS 2020), or the version of XMem in which each video is repeated.

    About twenty frames of a video have masks. The first of them is the prompt, and results are the masks of these
    frames alone.

    Args:
        layout: that of Long Videos.
        root: folder with `JPEGImages` and `Annotations`, or one of several such folders.
        subset: name of the folder, such as long_video_x3.

    Raises:
        MediaError: there is no such set, or clips have no frames or no masks; the message names all of them.
    """
    found = find_set(layout, root, subset)
    clips = found.faults(found.folder).collect(found.names(), lambda name: _clip(found, name))
    return Dataset(f"{layout.title} {found.name}", clips, MASKS_FOLDER)


def _clip(found: SetFolder, name: str) -> Clip | str:
    clip = found.clip(name, first_mask_only=True)
    return clip if isinstance(clip, str) else replace(clip, wanted=frozenset(clip.truth))
