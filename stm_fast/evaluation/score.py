"""Scores of the clips of a set."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from stm_fast.data.clips import Clip, Dataset
from stm_fast.data.faults import name_some
from stm_fast.errors import MediaError
from stm_fast.evaluation.clip_score import score_clip
from stm_fast.evaluation.object_score import ObjectScore
from stm_fast.evaluation.protocol import VOS_BENCHMARK, Protocol
from stm_fast.media.masks import VOID
from stm_fast.media.notices import notice

NO_OBJECT = "no object in the masks that are scored"


def score_set(
    dataset: Dataset,
    folders: Mapping[str, Path],
    unscored: Mapping[str, str],
    void: int | None = None,
    protocol: Protocol = VOS_BENCHMARK,
    faults: dict[str, str] | None = None,
) -> tuple[list[ObjectScore], dict[str, str]]:
    """Score the clips of a set, several at a time.

    Args:
        dataset: the set.
        folders: folders of the resulting masks, by the names of clips.
        unscored: why clips cannot be scored, by their names; see `Protocol.unscored`.
        void: see `score_clip`.
        protocol: likewise.
        faults: takes why clips could not be scored after all, by their names; by default the first of them raises.

    Gives a notice of clips in which id 255, which is void in most sets, is scored as an object.

    Returns:
        The scores of all objects in scored frames, and why clips have none, by their names.

    Raises:
        StmFastError: vos-benchmark is not installed.
        MediaError: see `score_clip`; unless there are `faults`.
    """

    def score(clip: Clip) -> list[ObjectScore] | MediaError:
        try:
            return score_clip(clip, folders[clip.name], void, protocol)
        except MediaError as error:
            return error

    clips = [clip for clip in dataset if clip.name not in unscored]
    with ThreadPoolExecutor() as pool:
        found = list(zip(clips, pool.map(score, clips), strict=True))
    scored = []
    for clip, scores in found:
        if not isinstance(scores, MediaError):
            scored.append((clip, scores))
        elif faults is None:
            raise scores
        else:
            faults[clip.name] = str(scores)
    empty = {clip.name: NO_OBJECT for clip, scores in scored if not scores}
    if white := list(dict.fromkeys(each.clip for _, scores in scored for each in scores if each.object_id == VOID)):
        notice(f"id {VOID} is scored as an object in {name_some(white)}; void {VOID} leaves it out")
    in_order = [_of_kind(score, clip, dataset) for clip, scores in scored for score in scores]
    return in_order, {**unscored, **empty, **(faults or {})}


def _of_kind(score: ObjectScore, clip: Clip, dataset: Dataset) -> ObjectScore:
    """Return a score with what the dataset says of the object."""
    kind = dataset.is_unseen(clip, score.object_id)
    return replace(score, category=clip.categories.get(score.object_id), unseen=kind)
