"""LVOS, v1 and v2."""

import json
from pathlib import Path

from stm_fast.data.clips import Dataset, Submission
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.video.set_folders import (
    MASKS,
    MASKS_FOLDER,
    SetFolder,
    find_set,
    is_set,
    list_sets,
    looks_like,
)
from stm_fast.errors import MediaError

__all__ = ["is_set", "list_sets", "looks_like", "open_set"]

SUBMISSION = Submission("the folder {masks} as it is, zipped", MASKS)
_UNSEEN_OF_1 = """
R3UJGYwy 058oeZ2p UtEnRpiP yfzVCnvU 6mNj04tC yWnanBID gw84JOqH 711gAS21 FmzvB44A Oj1z5fO0 tAyQIobn
yxCvN6OJ LWVlKBlK K3OUeINk xpI7xRWN aFytsETk FiRTBMg2 nfcT3owb v3uNUctx JGG6MrhF 49TNsJzk dtHbJvYy
8lxxCA5h N6CONZUW vJ8W2TO5 gdqCcvs2 pMntJwSQ
"""
_UNSEEN_OF_2 = """
R3UJGYwy K3OUeINk 058oeZ2p xpI7xRWN FiRTBMg2 nfcT3owb JGG6MrhF yfzVCnvU 6mNj04tC yWnanBID v3uNUctx
49TNsJzk gw84JOqH 711gAS21 dtHbJvYy tAyQIobn vJ8W2TO5 FmzvB44A 8lxxCA5h N6CONZUW Oj1z5fO0 gdqCcvs2
LWVlKBlK yxCvN6OJ pMntJwSQ p9RjdKoh 9NA8c5C3 m37l7ti1 nwflTTf1 LY2zehlH beR0WT11 afoR2rH6 xQZlxhxV
o36i3YWC cdzAjcuN IlvtT6D6 YfoFnMgm FiQUhyRi 9oLyy7aJ 9RoNInYO wrrX6bxv q2HE4zaM rvwT3piq ZFqAoImI
bwcKqVSN QE1wMR58 eEcUJVBZ Qf9YVXOW SRRojucs PQfn7XV2 3bvEjhOT
"""
UNSEEN_CLIPS = {1: frozenset(_UNSEEN_OF_1.split()), 2: frozenset(_UNSEEN_OF_2.split())}
"""Clips of val whose categories the training set lacks, by version: unseen_videos.txt of lvos-evaluation.

Two clips of version 1 are seen in version 2, whose training set is larger.
"""


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open one set of LVOS (Hong et al., arXiv 2211.10181; v2: arXiv 2404.19326).

    Both versions have `train`, `val` and `test`. An object is followed from the first mask that shows it; `test` has no
    other masks. The clips are those of `<set>_meta.json`, if the set's folder has that file, else those with masks.
    Which objects of val are unseen depends on the version; a set is of version 2 if it has a clip that only that lists.

    Args:
        layout: that of LVOS.
        root: see `stm_fast.data.video.set_folders.find_set`.
        subset: see `find_set`.

    Raises:
        MediaError: there is no such set, its meta file cannot be read, or clips have no frames or no masks; the message
            names all of them.
    """
    found = find_set(layout, root, subset)
    clips = found.faults().collect(found.names(_clips_of_meta(found)), found.clip)
    names = frozenset(clip.name for clip in clips)
    version = 2 if names & (UNSEEN_CLIPS[2] - UNSEEN_CLIPS[1]) else 1
    return Dataset(
        f"{layout.title} {found.name}",
        clips,
        MASKS_FOLDER,
        SUBMISSION,
        unseen_clips=UNSEEN_CLIPS[version] & names,
    )


def _clips_of_meta(found: SetFolder) -> list[str]:
    """Return the clips that the set's meta file lists; none if there is no such file."""
    for name in {found.name: None, "val": None, "valid": None}:
        file = found.folder / f"{name}_meta.json"
        if file.is_file():
            try:
                return list(json.loads(file.read_text(encoding="utf-8"))["videos"])
            except (ValueError, KeyError, TypeError) as error:
                raise MediaError(f"{file} lacks the layout of LVOS, videos by name ({error!r}): correct it") from error
    return []
