"""Finished masks: folders of them on disk, paired with the truth that they are scored against."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath

from stm_fast.data.clips import Clip, Dataset
from stm_fast.data.faults import name_some
from stm_fast.data.video.folder import void_in
from stm_fast.errors import MediaError
from stm_fast.evaluation.protocol import Protocol
from stm_fast.media.images import list_images
from stm_fast.media.notices import notice


def folders_of_masks(root: str | Path) -> dict[str, Path]:
    """Return folders of masks by the names of their clips.

    Args:
        root: a folder with a folder of masks for each clip; or the folder of one clip's masks.

    Raises:
        MediaError: there is no mask.
    """
    root = Path(root)
    if not root.is_dir():
        raise MediaError(f"{root} is not a folder: one with a folder of masks for each clip is needed")
    several = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and list_images(path)}
    if several:
        return several
    if not list_images(root):
        raise MediaError(f"{root} holds no masks, and no folders of masks for clips")
    return {root.resolve().name: root}


def truth_in(root: str | Path) -> Dataset:
    """Open folders of true masks as a dataset whose clips have no frames. 255 beside other ids is void.

    Args:
        root: see `folders_of_masks`.

    Raises:
        MediaError: likewise.
    """
    clips = []
    for name, folder in folders_of_masks(root).items():
        truth = list_images(folder)
        clips.append(Clip(name, folder, truth, truth))
    void = void_in(clips)
    return Dataset(Path(root).resolve().name, tuple(replace(clip, void=void) for clip in clips), PurePath())


def results_for(dataset: Dataset, root: str | Path) -> dict[str, Path]:
    """Return the folders of results by the names of a dataset's clips.

    A notice names clips that the dataset lacks.

    Args:
        dataset: the truth.
        root: folders of results as `folders_of_masks` takes them, or the OUT of `stm-fast evaluate`, which holds them
            where the dataset has its masks. The results of one clip belong to the only clip of the dataset; a notice
            says so if a folder of another name holds them.

    Raises:
        MediaError: there is no mask; or clips have no results, all of which the message names.
    """
    root = Path(root)
    inside = root / dataset.masks_folder
    base = inside if inside.is_dir() else root
    there = folders_of_masks(base)
    names = [clip.name for clip in dataset]
    folders = {name: base / name for name in names if (base / name).is_dir()}
    if len(names) == len(there) == 1:
        (name,), ((found, folder),) = names, there.items()
        if folder != base and found != name:
            notice(f"{folder} is scored as the result of clip {name}")
        return {name: folder}
    if missing := [name for name in names if name not in folders]:
        raise MediaError(f"{base} has no masks of {len(missing)} of {len(names)} clips: {', '.join(missing)}")
    if extra := sorted(there.keys() - set(names)):
        notice(f"{base} has masks of clips that {dataset.name} does not have, which are not scored: {', '.join(extra)}")
    return folders


def check_frames(clips: list[Clip], folders: Mapping[str, Path], protocol: Protocol) -> None:
    """Make sure that each frame that is scored has a result.

    Raises:
        MediaError: some have none; the message names clips and frames.
    """
    lacking = []
    for clip in clips:
        needed = protocol.scored.of_clip(list(clip.truth))
        if lost := [name for name in needed if not (folders[clip.name] / f"{name}.png").exists()]:
            lacking.append(f"  {clip.name}: {name_some(lost)}")
    if lacking:
        raise MediaError("\n".join(["there are no results of frames that are scored, in", *lacking]))
