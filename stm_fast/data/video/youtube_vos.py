"""YouTube-VOS, and datasets in the same layout, such as MOSE and LVOS."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from stm_fast.data.clips import Clip, Dataset, SetSummary, Submission
from stm_fast.data.faults import Faults, name_some
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.truth import summarize
from stm_fast.errors import MediaError
from stm_fast.media.images import list_images
from stm_fast.media.masks import VOID
from stm_fast.media.notices import notice

FRAMES, MASKS, META = "JPEGImages", "Annotations", "meta.json"
ALL_FRAMES = "_all_frames"

_WITHOUT_FOLDER = Submission("the folders of clips in {masks}, zipped without a folder around them")
_WITH_ANNOTATIONS = Submission("the folder {masks} as it is, zipped", MASKS)

_Meta = Mapping[str, Mapping[str, Sequence[str]]]


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open one set of YouTube-VOS (Xu et al., arXiv 1809.03327), or of a dataset in the same layout.

    `JPEGImages/<clip>` holds frames and `Annotations/<clip>` masks. An object is followed from the first mask that
    shows it; test sets have no other masks. If `meta.json` lists frames of objects, results are the masks of these
    frames, otherwise those of all frames. The set `valid_all_frames` also has the frames that `valid` leaves out; its
    masks and its list are those of `valid`.

    Args:
        layout: of YouTube-VOS, MOSE or LVOS.
        root: folder of a set; with `subset`, the folder that holds the set, directly or in `all_frames`.
        subset: name of the set's folder, or of a list of clips `ImageSets/<subset>.txt` in `root`.

    Raises:
        MediaError: the layout is different, `meta.json` cannot be read, or clips have no frames or no masks; the
            message names all of them.
    """
    folder, listed = _find(layout, root, subset)
    masks = folder / MASKS
    meta_file = folder / META
    if folder.name.endswith(ALL_FRAMES):
        given = _with_masks_of(folder)
        masks = masks if masks.is_dir() else given / MASKS
        meta_file = meta_file if meta_file.is_file() else given / META
    meta = _read_meta(meta_file)
    names = listed or sorted({*_folders(masks), *meta})
    if not names:
        raise MediaError(f"{masks} holds no folder of masks: it needs one for each clip")
    clips = []
    faults = Faults(
        f"{layout.title} in {folder}",
        f"put them there, or remove the clips from {masks} and {META}",
        layout.needed(root, subset),
    )
    for clip in names:
        made = _clip(clip, folder / FRAMES / clip, masks / clip, meta.get(clip, {}))
        if isinstance(made, str):
            faults.add(clip, made)
        else:
            clips.append(made)
    faults.check()
    if not listed and (left := sorted(set(_folders(folder / FRAMES)) - set(names))):
        notice(f"{len(left)} clips of {folder / FRAMES} have no masks and were left out: {name_some(left)}")
    _notice_gaps(meta_file, meta, clips)
    name = f"{layout.title} {folder.name if subset is None else subset}"
    submission = _WITHOUT_FOLDER if layout.name == "mose" else _WITH_ANNOTATIONS
    return Dataset(name, tuple(clips), PurePath(MASKS), submission, VOID)


def list_sets(layout: VideoLayout, root: Path) -> list[SetSummary]:
    """List the sets below a folder, in the order of their names; see `open_set`.

    Raises:
        MediaError: there is none, or a mask cannot be read.
    """
    lists = sorted((root / "ImageSets").glob("*.txt"))
    sets = [summarize(file.stem, _read_list(file), root / FRAMES, root / MASKS) for file in lists]
    for folder in _set_folders(root):
        masks = folder / MASKS if (folder / MASKS).is_dir() else _with_masks_of(folder) / MASKS
        sets.append(summarize(folder.name, sorted(_folders(masks)), folder / FRAMES, masks))
    if not sets:
        raise MediaError(f"{root} holds neither {FRAMES} nor folders of sets with {FRAMES} in them")
    return sets


def is_set(layout: VideoLayout, root: Path) -> bool:
    """Return whether a folder is a single set."""
    return (root / FRAMES).is_dir() and not any((root / "ImageSets").glob("*.txt"))


def looks_like(layout: VideoLayout, root: Path) -> bool:
    """Return whether a folder is or holds sets. One with a folder per resolution, as in DAVIS, does not count."""
    return any(
        (each / FRAMES).is_dir() and not (each / FRAMES / "480p").is_dir() for each in (root, *_set_folders(root))
    )


def _find(layout: VideoLayout, root: Path, subset: str | None) -> tuple[Path, Sequence[str]]:
    """Return the folder of a set, and its clips if there is a list of them."""
    if subset is not None:
        file = root / "ImageSets" / f"{subset}.txt"
        if file.is_file():
            return root, _read_list(file)
        for folder in (root / subset, root / "all_frames" / subset):
            if (folder / FRAMES).is_dir():
                return folder, ()
    if subset in {None, root.resolve().name} and (root / FRAMES).is_dir():
        return root.resolve(), ()
    if subset is None:
        raise MediaError(f"{root} has no folder {FRAMES}: name one of its sets")
    there = ", ".join(each.name for each in list_sets(layout, root))
    raise MediaError(f"{root} has no set {subset} with a folder {FRAMES} in it: there are {there}")


def _set_folders(root: Path) -> list[Path]:
    folders = [parent / name for parent in (root, root / "all_frames") for name in _folders(parent)]
    return sorted((each for each in folders if (each / FRAMES).is_dir()), key=lambda each: each.name)


def _with_masks_of(folder: Path) -> Path:
    """Return the set that holds the masks: for a set of all frames it is the one without the suffix."""
    parent = folder.parent.parent if folder.parent.name == "all_frames" else folder.parent
    return parent / folder.name.removesuffix(ALL_FRAMES)


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]


def _read_list(file: Path) -> list[str]:
    return list(dict.fromkeys(file.read_text(encoding="utf-8", errors="replace").split()))


def _read_meta(file: Path) -> _Meta:
    """Read `meta.json`: frames by object by clip. In LVOS it lists objects without frames."""
    if not file.is_file():
        return {}
    try:
        videos: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))["videos"]
        return {
            clip: {each: [str(name) for name in about.get("frames", ())] for each, about in video["objects"].items()}
            for clip, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediaError(
            f"{file} lacks the layout of YouTube-VOS, videos with objects and frames ({error!r}): correct it, or "
            "move it away to write masks of all frames"
        ) from error


def _notice_gaps(file: Path, meta: _Meta, clips: Sequence[Clip]) -> None:
    """Give notices of clips that `meta.json` does not list, and of objects whose first listed frame has no mask."""
    if not any(any(objects.values()) for objects in meta.values()):
        return
    if unlisted := [clip.name for clip in clips if clip.wanted is None]:
        notice(f"{file} lists no frames of {name_some(unlisted)}: masks of all frames are written")
    late = [
        f"{clip.name} object {each} in {min(frames)}"
        for clip in clips
        for each, frames in meta.get(clip.name, {}).items()
        if frames and min(frames) not in clip.prompts
    ]
    if late:
        notice(f"{file} lists objects whose first frame has no mask: {name_some(late)}")


def _clip(name: str, frames: Path, masks: Path, listed: Mapping[str, Sequence[str]]) -> Clip | str:
    """Return the clip, or what it lacks."""
    if not (frames.is_dir() and list_images(frames)):
        return f"without frames in {frames.parent}"
    truth = list_images(masks) if masks.is_dir() else {}
    if not truth:
        return f"without masks in {masks.parent}"
    wanted = frozenset(name for names in listed.values() for name in names)
    return Clip(name, frames, truth, truth, wanted | truth.keys() if wanted else None, void=VOID)
