"""Plain folders: `frames` (or a video) and `masks` of one clip, or of several clips with a folder each."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from stm_fast.data.clips import Clip, Dataset, SetSummary
from stm_fast.data.faults import Faults, name_some
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.truth import has_truth
from stm_fast.errors import MediaError
from stm_fast.media.images import list_images
from stm_fast.media.masks import VOID, Colour, object_ids, read_mask
from stm_fast.media.notices import MediaNotice, notice
from stm_fast.media.palette import WHITE

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm"})
_LOOKED_AT = 64
"""Masks that show whether 255 is void, but at least one of each clip."""


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open the clips of a plain folder. An object is followed from the first mask that shows it.

    - several clips: `ROOT/frames/<clip>` holds images (or `ROOT/frames/<clip>.mp4` is a video), `ROOT/masks/<clip>`
      masks;
    - one clip: `ROOT/frames` holds images, or a single video lies in `ROOT`, and `ROOT/masks` holds masks.

    Masks have the names of their frames; frames of a video are named 00000, 00001 and so on. Void is 255 if some of the
    masks show it beside other ids. If masks show nothing but 0 and 255, which is object 1, the set has no void. Notices
    tell of both.

    Args:
        layout: that of plain folders.
        root: the folder.
        subset: name of the only clip to open; None for all.

    Raises:
        MediaError: no clip is found, or clips have no frames or no masks; the message names all of them.
    """
    clips = _several(root, subset) if _is_several(root) else [_single(root)]
    if subset is not None and subset not in {each.name for each in clips}:
        raise MediaError(f"{root} has no clip {subset}: its clip is {clips[0].name}")
    void = void_in(clips)
    clips = [replace(clip, void=void) for clip in clips]
    return Dataset(root.resolve().name, tuple(clips), PurePath("masks"))


def list_sets(layout: VideoLayout, root: Path) -> list[SetSummary]:
    """List the clips, each of which can be opened as a set.

    Raises:
        MediaError: see `open_set`.
    """
    clips = _several(root, None) if _is_several(root) else [_single(root)]
    return [SetSummary(clip.name, 1, 0, has_truth(clip.truth.values())) for clip in clips]


def is_set(layout: VideoLayout, root: Path) -> bool:
    """Return True: all clips are one set."""
    return True


def looks_like(layout: VideoLayout, root: Path) -> bool:
    """Return whether there is a folder of masks."""
    return (root / "masks").is_dir()


def void_in(clips: Sequence[Clip]) -> int | None:
    """Return 255 if masks show it beside other ids, else None. Notices say what is assumed of 255."""
    void, objects = [], []
    count = max(1, _LOOKED_AT // len(clips))
    for clip in clips:
        masks = list(clip.truth.values())
        colours: dict[Colour, int] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MediaNotice)  # given when the masks are used
            shown = [object_ids(read_mask(path, colours)) for path in masks[:: -(-len(masks) // count)]]
        if any(VOID in ids and len(ids) > 1 for ids in shown):
            void.append(clip.name)
        elif colours.get(WHITE) == 1:
            objects.append(clip.name)
    if void:
        notice(f"masks of {name_some(void)} have {VOID} beside other ids: it is void unless another void is named")
    elif objects:
        notice(f"masks of {name_some(objects)} are black and white: white is object 1, and there is no void")
    return VOID if void else None


def _is_several(root: Path) -> bool:
    masks = root / "masks"
    if not masks.is_dir():
        raise MediaError(f"{masks} does not exist: a plain dataset keeps its masks there")
    return any(path.is_dir() and path.name[0] != "." for path in masks.iterdir())


def _several(root: Path, only: str | None) -> list[Clip]:
    names = sorted(path.name for path in (root / "masks").iterdir() if path.is_dir() and path.name[0] != ".")
    if only is not None and only not in names:
        raise MediaError(f"{root} has no clip {only}: there are {', '.join(names)}")
    faults = Faults(str(root), "put them there, or remove the folders of these clips from masks")
    clips = []
    for name in names if only is None else [only]:
        frames = _named_frames(root / "frames", name)
        truth = list_images(root / "masks" / name)
        if frames is None:
            faults.add(name, f"without a folder or a video of their name in {root / 'frames'}")
        elif not truth:
            faults.add(name, f"without a mask in {root / 'masks'}")
        else:
            clips.append(Clip(name, frames, truth, truth))
    faults.check()
    return clips


def _named_frames(frames: Path, name: str) -> Path | None:
    if (frames / name).is_dir():
        return frames / name
    return next((path for path in _videos(frames) if path.stem == name), None)


def _single(root: Path) -> Clip:
    truth = list_images(root / "masks")
    if not truth:
        raise MediaError(f"{root / 'masks'} holds no mask: it needs at least that of the first frame")
    return Clip(root.resolve().name, _single_frames(root), truth, truth)


def _single_frames(root: Path) -> Path:
    if (root / "frames").is_dir():
        return root / "frames"
    videos = _videos(root)
    if len(videos) != 1:
        raise MediaError(f"{root} has masks but no folder frames, and {len(videos)} videos where one is needed")
    return videos[0]


def _videos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
