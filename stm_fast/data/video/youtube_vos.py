"""YouTube-VOS 2018 and 2019."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stm_fast.data.clips import Clip, Dataset, Submission
from stm_fast.data.faults import name_some
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.video.set_folders import (
    MASKS,
    MASKS_FOLDER,
    SetFolder,
    find_set,
    given_by,
    is_set,
    list_sets,
    looks_like,
)
from stm_fast.errors import MediaError
from stm_fast.media.notices import notice

__all__ = ["is_set", "list_sets", "looks_like", "open_set"]

META = "meta.json"
SUBMISSION = Submission("the folder {masks} as it is, zipped", MASKS)
_CATEGORIES = """
    airplane ape bear bike bird boat bucket bus camel cat cow crocodile deer dog dolphin duck eagle earless_seal
    elephant fish fox frisbee frog giant_panda giraffe hand hat hedgehog horse knife leopard lion lizard monkey
    motorbike mouse others owl paddle parachute parrot penguin person plant rabbit raccoon sedan shark sheep sign
    skateboard snail snake snowboard squirrel surfboard tennis_racket tiger toilet train truck turtle umbrella whale
    zebra
"""
SEEN = frozenset(_CATEGORIES.split())
"""The 65 categories of the training set, 2018 and 2019."""
_CLIPS = {474: "2018", 508: "2018", 507: "2019", 541: "2019"}
"""The release, by the number of clips in valid and test."""


@dataclass(frozen=True)
class _Object:
    """What `meta.json` says of an object."""

    frames: tuple[str, ...] = ()
    category: str | None = None


@dataclass(frozen=True)
class _Meta:
    """What `meta.json` says of clips: their objects, by id."""

    file: Path
    clips: Mapping[str, Mapping[int, _Object]] = field(default_factory=dict)

    def categories(self) -> frozenset[str]:
        objects = [each for clip in self.clips.values() for each in clip.values()]
        return frozenset(each.category for each in objects if each.category is not None)


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open one set of YouTube-VOS (Xu et al., arXiv 1809.03327).

    An object is followed from the first mask that shows it; valid and test have no other masks. Results are the masks
    of the frames that `meta.json` lists for a clip's objects, or of all frames if it lists none. The sets
    `valid_all_frames` and `test_all_frames` also have the frames that `valid` and `test` leave out; their masks and
    lists are those of `valid` and `test`.

    A category is unseen if the training set's `meta.json` does not have it, or, where that file is not on disk, if it
    is not one of `SEEN`.

    Args:
        layout: of either release.
        root: see `stm_fast.data.video.set_folders.find_set`.
        subset: see `find_set`.

    Raises:
        MediaError: there is no such set, `meta.json` cannot be read, or clips have no frames or no masks; the message
            names all of them.
    """
    found = find_set(layout, root, subset)
    meta = _meta_of(found)
    names = found.names(list(meta.clips))
    clips = found.faults().collect(names, lambda name: _clip(found, name, meta.clips.get(name, {})))
    _notice_gaps(meta, clips)
    _notice_release(layout, len(clips))
    return Dataset(f"{layout.title} {found.name}", clips, MASKS_FOLDER, SUBMISSION, unseen=_unseen(meta, found.home))


def _clip(found: SetFolder, name: str, objects: Mapping[int, _Object]) -> Clip | str:
    categories = {i: each.category for i, each in objects.items() if each.category is not None}
    clip = found.clip(name, categories=categories)
    wanted = frozenset(frame for each in objects.values() for frame in each.frames)
    return clip if isinstance(clip, str) or not wanted else replace(clip, wanted=wanted | clip.prompts.keys())


def _meta_of(found: SetFolder) -> _Meta:
    """Read the set's `meta.json`; that of a set of all frames may lie beside its masks."""
    own = found.folder / META
    return _read_meta(own if own.is_file() else given_by(found.folder) / META)


def _read_meta(file: Path) -> _Meta:
    if not file.is_file():
        return _Meta(file)
    try:
        videos: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))["videos"]
        return _Meta(
            file,
            {
                clip: {int(each): _object(about) for each, about in video["objects"].items()}
                for clip, video in videos.items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediaError(
            f"{file} lacks the layout of YouTube-VOS, videos with objects and frames ({error!r}): correct it, or "
            "move it away to write masks of all frames"
        ) from error


def _object(about: Mapping[str, Any]) -> _Object:
    return _Object(tuple(str(name) for name in about.get("frames", ())), about.get("category"))


def _unseen(meta: _Meta, home: Path) -> frozenset[str]:
    """Return the categories of the set that the training set lacks."""
    return meta.categories() - (_read_meta(home / "train" / META).categories() or SEEN)


def _notice_gaps(meta: _Meta, clips: Iterable[Clip]) -> None:
    """Give notices of clips that `meta.json` does not list, and of objects whose first listed frame has no mask."""
    if not any(each.frames for objects in meta.clips.values() for each in objects.values()):
        return
    if unlisted := [clip.name for clip in clips if clip.wanted is None]:
        notice(f"{meta.file} lists no frames of {name_some(unlisted)}: masks of all frames are written")
    late = [
        f"{clip.name} object {i} in {min(each.frames)}"
        for clip in clips
        for i, each in meta.clips.get(clip.name, {}).items()
        if each.frames and min(each.frames) not in clip.prompts
    ]
    if late:
        notice(f"{meta.file} lists objects whose first frame has no mask: {name_some(late)}")


def _notice_release(layout: VideoLayout, clips: int) -> None:
    release = _CLIPS.get(clips)
    if release and not layout.title.endswith(("VOS", release)):
        notice(f"the set has {clips} clips, which is the release of {release}, not {layout.title}")
