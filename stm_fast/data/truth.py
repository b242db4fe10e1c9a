"""Decide whether a clip has masks to score against."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from stm_fast.data.clips import Clip, SetSummary
from stm_fast.media.images import list_images
from stm_fast.media.masks import Colour, MaskFile, object_ids, read_mask
from stm_fast.media.notices import MediaNotice

MIN_ANNOTATED_FRAMES = 3
"""The first annotated frame, which is the prompt, the last one, and one between them to score."""
_LOOKED_AT = 3


def unscored_because(clip: Clip, void: int | None = None, min_annotated: int = MIN_ANNOTATED_FRAMES) -> str | None:
    """Return in a few words why a clip cannot be scored, or None if it can be.

    Args:
        clip: any clip.
        void: id of pixels that belong to no object and are not scored, or None.
        min_annotated: number of annotated frames that it needs, by default in the protocol of DAVIS.

    Raises:
        MediaError: a mask cannot be read.
    """
    if not has_truth(clip.truth.values(), void):
        return "only masks of first appearances"
    if len(clip.truth) < min_annotated:
        return f"fewer than {min_annotated} annotated frames"
    return None


def has_truth(masks: Iterable[MaskFile], void: int | None = None) -> bool:
    """Return whether there is a mask to score against: a mask all of whose objects appeared before.

    Test sets publish only the masks in which objects first appear; these may show earlier objects too. Masks are read
    until one decides, which is usually the second one if there is truth.

    Args:
        masks: files in the order of their frames.
        void: id of pixels that are no object, or None.

    Raises:
        MediaError: a mask cannot be read.
    """
    colours: dict[Colour, int] = {}
    seen: set[int] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaNotice)  # given when the masks are used
        for path in masks:
            shown = set(object_ids(read_mask(path, colours, void=void)))
            if shown and shown <= seen:
                return True
            seen |= shown
    return False


def summarize(name: str, clips: Sequence[str], frames: Path, masks: Path) -> SetSummary:
    """Summarise a set of clips. The masks of the first three decide whether it has truth.

    Args:
        name: name of the set.
        clips: names of its clips.
        frames: folder of the clips' folders of frames.
        masks: folder of the clips' folders of masks.

    Raises:
        MediaError: a mask cannot be read.
    """
    there = [clip for clip in clips if (frames / clip).is_dir() and (masks / clip).is_dir()]
    looked_at = (list_images(masks / clip).values() for clip in there[:_LOOKED_AT])
    return SetSummary(name, len(clips), len(clips) - len(there), any(has_truth(files) for files in looked_at))
