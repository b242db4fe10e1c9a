"""Clips in plain folders: `frames` (or a video) and `masks`, for one clip or a folder of each for several."""

from pathlib import Path, PurePath

from stm_fast.data.clips import Clip, Dataset
from stm_fast.errors import MediaError
from stm_fast.media.video import list_images

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm"})


def folder(root: str | Path, clip: str | None = None) -> Dataset:
    """Clips of a plain folder. An object is followed from the first mask it is in.

    - several clips: `ROOT/frames/<clip>` holds images (or `ROOT/frames/<clip>.mp4` is a video), `ROOT/masks/<clip>`
      masks;
    - one clip: `ROOT/frames` holds images, or a single video lies in `ROOT`, and `ROOT/masks` holds masks.

    Masks carry the names of their frames; a video's frames are called 00000, 00001 and so on.

    Args:
        root: the folder.
        clip: only this one.

    Raises:
        MediaError: no clip is found, or a clip has no frames or no masks.
    """
    root = Path(root)
    clips = _several(root) if _is_several(root) else [_make(root.resolve().name, _single_frames(root), root / "masks")]
    if clip is not None:
        named = [candidate for candidate in clips if candidate.name == clip]
        if not named:
            raise MediaError(f"{root} has no clip {clip}: there are {', '.join(each.name for each in clips)}")
        clips = named
    return Dataset(root.resolve().name, tuple(clips), PurePath("masks"))


def _is_several(root: Path) -> bool:
    masks = root / "masks"
    if not masks.is_dir():
        raise MediaError(f"{masks} does not exist: a plain dataset keeps its masks there")
    return any(path.is_dir() for path in masks.iterdir())


def _several(root: Path) -> list[Clip]:
    return [
        _make(masks.name, _named_frames(root / "frames", masks.name), masks)
        for masks in sorted((root / "masks").iterdir())
        if masks.is_dir()
    ]


def _named_frames(frames: Path, name: str) -> Path:
    if (frames / name).is_dir():
        return frames / name
    for path in _videos(frames):
        if path.stem == name:
            return path
    raise MediaError(f"clip {name} has masks but neither a folder nor a video of its name in {frames}")


def _single_frames(root: Path) -> Path:
    if (root / "frames").is_dir():
        return root / "frames"
    videos = _videos(root)
    if len(videos) != 1:
        raise MediaError(f"{root} has masks but no folder frames, and {len(videos)} videos where one is needed")
    return videos[0]


def _make(name: str, frames: Path, masks: Path) -> Clip:
    truth = list_images(masks)
    if not truth:
        raise MediaError(f"clip {name} has no mask in {masks}")
    return Clip(name, frames, truth, truth)


def _videos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
