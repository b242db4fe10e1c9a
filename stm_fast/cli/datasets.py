"""Layouts of datasets on disk, as `--dataset` and `--set` name them."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from stm_fast.errors import MediaError

if TYPE_CHECKING:
    from stm_fast.data.clips import Dataset, SetSummary


class Layout(str, Enum):
    """Layouts of datasets on disk."""

    davis2016 = "davis2016"
    davis2017 = "davis2017"
    youtube_vos = "youtube-vos"
    mose = "mose"
    lvos = "lvos"
    folder = "folder"


TAKES = {
    Layout.davis2016: "ImageSets/2016/SET.txt, JPEGImages/480p/CLIP and Annotations/480p/CLIP",
    Layout.davis2017: "ImageSets/2017/SET.txt, JPEGImages/480p/CLIP and Annotations/480p/CLIP",
    Layout.youtube_vos: "SET/JPEGImages/CLIP, SET/Annotations/CLIP and SET/meta.json",
    Layout.mose: "SET/JPEGImages/CLIP and SET/Annotations/CLIP",
    Layout.lvos: "SET/JPEGImages/CLIP and SET/Annotations/CLIP",
    Layout.folder: "frames (or a video) and masks, or frames/CLIP and masks/CLIP",
}
"""What ROOT holds in each layout."""

_NAMES = {Layout.youtube_vos: "YouTube-VOS", Layout.mose: "MOSE", Layout.lvos: "LVOS"}
_WITH_ANNOTATIONS = "the folder {masks} as it is, zipped"


def open_dataset(root: Path, subset: str | None, layout: Layout) -> "Dataset":
    """Open the clips of a dataset in one of the layouts.

    Args:
        root: the dataset's folder.
        subset: its set, or one clip of a plain folder; None for the whole folder if it is one set.
        layout: of `root`.

    Raises:
        MediaError: the dataset does not have the layout, or has several sets and none is named; the message lists
            them.
    """
    from stm_fast.data.davis import SUBMISSION, davis
    from stm_fast.data.folder import folder
    from stm_fast.data.youtube_vos import is_set, youtube_vos

    _check_layout(root, layout)
    if layout is Layout.folder:
        return folder(root, subset)
    if layout in _NAMES:
        if subset is None and not is_set(root):
            raise MediaError(_choose(root, layout))
        submission = SUBMISSION if layout is Layout.mose else _WITH_ANNOTATIONS
        return youtube_vos(root, subset, name=_NAMES[layout], submission=submission)
    if subset is None:
        raise MediaError(_choose(root, layout))
    return davis(root, subset, _year(layout))


def list_sets(root: Path, layout: Layout) -> "list[SetSummary]":
    """List the sets of a dataset.

    Raises:
        MediaError: it has none, or a mask cannot be read.
    """
    from stm_fast.data.davis import davis_sets
    from stm_fast.data.youtube_vos import youtube_vos_sets

    return youtube_vos_sets(root) if layout in _NAMES else davis_sets(root, _year(layout))


def _choose(root: Path, layout: Layout) -> str:
    """Return the message if no set is named."""
    sets = list_sets(root, layout)
    width = max(len(each.name) for each in sets)
    lines = [f"  {each.name:{width}}  {_holds(each)}" for each in sets]
    return "\n".join([f"--set is missing; the sets of {root} are", *lines])


def _holds(each: "SetSummary") -> str:
    clips = f"{each.clips} clip{'s' if each.clips != 1 else ''}"
    if each.missing == each.clips:
        return f"{clips}, all missing"
    missing = f", {each.missing} of them missing" if each.missing else ""
    return f"{clips}{missing}; " + (
        "masks to score against" if each.has_truth else "only masks of first appearances, nothing to score"
    )


def _check_layout(root: Path, layout: Layout) -> None:
    """Raise `MediaError` for a folder that clearly has another layout."""
    if not root.is_dir():
        raise MediaError(f"{root} is not a folder: --dataset {layout.value} needs one with {TAKES[layout]}")
    likely = _likely(root)
    if likely and layout not in likely:
        raise MediaError(
            f"{root} does not have the layout --dataset {layout.value}, which is {TAKES[layout]}; it looks like "
            f"--dataset {' or '.join(each.value for each in likely)}"
        )


def _likely(root: Path) -> list[Layout]:
    """Return the layouts that the folders of `root` suggest."""
    from stm_fast.data.davis import lists_folder
    from stm_fast.data.youtube_vos import looks_like_youtube_vos

    likely = [
        layout
        for layout in (Layout.davis2016, Layout.davis2017)
        if any(lists_folder(root, _year(layout)).glob("*.txt"))
    ]
    if (root / "masks").is_dir():
        likely.append(Layout.folder)
    if not likely and looks_like_youtube_vos(root):
        likely += _NAMES
    return likely


def _year(layout: Layout) -> int:
    return int(layout.value.removeprefix("davis"))
