"""Region similarity J and boundary accuracy F of masks on disk, by vos-benchmark."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.clips import Clip, Dataset
from stm_fast.errors import MediaError, StmFastError
from stm_fast.evaluation.protocol import DAVIS, Protocol, ScoredFrames
from stm_fast.media.masks import Colour, fit_mask, object_ids, read_labels, read_mask, without_void

BOUNDARY = 0.008
"""Tolerance of F, as a share of the frame's diagonal (Perazzi et al., CVPR 2016; davis2017-evaluation's `bound_th`)."""

NO_OBJECT = "no object in the masks that are scored"


@dataclass(frozen=True)
class ObjectScore:
    """The scores of one object in one clip, averaged over its frames.

    Attributes:
        clip: name of the clip.
        object_id: id of the object.
        j: region similarity, intersection over union, in [0, 1].
        f: boundary accuracy, F-measure of the outlines within 0.8 % of the frame's diagonal, in [0, 1].
        j_last: J over the last quarter of the scored frames, J_tr of VOST; None if the protocol does not have it.
        category: what the object is; None if the dataset does not say.
        unseen: whether the training set of the dataset lacks such objects; None if the dataset does not say.
    """

    clip: str
    object_id: int
    j: float
    f: float
    j_last: float | None = None
    category: str | None = None
    unseen: bool | None = None

    @property
    def jf(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class MeanScore:
    """The mean over objects: J, F and the mean of both, in [0, 1]; and J over the last quarter, if they have it."""

    j: float
    f: float
    jf: float
    j_last: float | None = None

    @classmethod
    def of(cls, scores: Iterable[ObjectScore]) -> "MeanScore":
        """Return the mean of at least one score."""
        scores = list(scores)
        last = [score.j_last for score in scores if score.j_last is not None]
        j, f, jf = (fmean(getattr(score, name) for score in scores) for name in ("j", "f", "jf"))
        return cls(j, f, jf, fmean(last) if last else None)


def means(scores: Sequence[ObjectScore]) -> dict[str, MeanScore]:
    """Return the mean over objects as "mean"; and, if the dataset tells objects unseen in training, three more.

    "seen" and "unseen" are the means over objects of either kind. "overall" is the mean of these two, so that its J&F
    is the mean of the four numbers of YouTube-VOS: J and F of seen and of unseen objects
    (youtube-vos.org/dataset/vos).

    Args:
        scores: at least one.
    """
    found = {"mean": MeanScore.of(scores)}
    kinds = {name: [score for score in scores if score.unseen is kind] for name, kind in _KINDS.items()}
    found |= {name: MeanScore.of(own) for name, own in kinds.items() if own}
    if all(kinds.values()):
        seen, unseen = found["seen"], found["unseen"]
        j, f = (seen.j + unseen.j) / 2, (seen.f + unseen.f) / 2
        found["overall"] = MeanScore(j, f, (j + f) / 2)
    return found


_KINDS = {"seen": False, "unseen": True}


def check_scoring() -> None:
    """Raise `StmFastError` where vos-benchmark cannot be used, before hours of segmenting."""
    _evaluator("")


def score_set(
    dataset: Dataset,
    folders: Mapping[str, Path],
    unscored: Mapping[str, str],
    void: int | None = None,
    protocol: Protocol = DAVIS,
) -> tuple[list[ObjectScore], dict[str, str]]:
    """Score the clips of a set, several at a time.

    Args:
        dataset: the set.
        folders: folders of the resulting masks, by the names of clips.
        unscored: why clips cannot be scored, by their names; see `Protocol.unscored`.
        void: see `score_clip`.
        protocol: likewise.

    Returns:
        The scores of all objects in scored frames, and why clips have none, by their names.

    Raises:
        StmFastError: vos-benchmark is not installed.
        MediaError: see `score_clip`.
    """
    clips = [clip for clip in dataset if clip.name not in unscored]
    scored = list(zip(clips, _in_threads(clips, folders, void, protocol), strict=True))
    empty = {clip.name: NO_OBJECT for clip, scores in scored if not scores}
    return [_of_kind(score, clip, dataset) for clip, scores in scored for score in scores], {**unscored, **empty}


def score_dataset(
    clips: Iterable[Clip], masks: str | Path, void: int | None = None, protocol: Protocol = DAVIS
) -> list[ObjectScore]:
    """Return the scores of all objects of clips, several clips at a time.

    Args:
        clips: clips that can be scored; see `Protocol.unscored_because`.
        masks: folder of the results, with one folder per clip.
        void: see `score_clip`.
        protocol: likewise.

    Raises:
        StmFastError: vos-benchmark is not installed.
        MediaError: see `score_clip`.
    """
    clips = list(clips)
    folders = {clip.name: Path(masks) / clip.name for clip in clips}
    return [score for scores in _in_threads(clips, folders, void, protocol) for score in scores]


def _in_threads(
    clips: Sequence[Clip], folders: Mapping[str, Path], void: int | None, protocol: Protocol
) -> list[list[ObjectScore]]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda clip: score_clip(clip, folders[clip.name], void, protocol), clips))


def _of_kind(score: ObjectScore, clip: Clip, dataset: Dataset) -> ObjectScore:
    """Return a score with what the dataset says of the object."""
    kind = dataset.is_unseen(clip, score.object_id)
    return replace(score, category=clip.categories.get(score.object_id), unseen=kind)


def score_clip(clip: Clip, masks: str | Path, void: int | None = None, protocol: Protocol = DAVIS) -> list[ObjectScore]:
    """Score a clip's objects.

    Truth is read by the rules of `stm_fast.media.masks.read_mask`, so 0/255 masks need no conversion.

    If the clip's inner frames are scored, an object counts from the first of them that it is in, in the truth or in the
    result, as in vos-benchmark. If each object has its own frames, it counts in all of them, and a frame without the
    object in truth and result scores 1, as in davis2017-evaluation.

    Pixels that are `void` in the truth become background in truth and result. J leaves them out, and F compares the
    outlines of what remains, as the measures of davis2017-evaluation do. Under a protocol that takes void as
    background, the result keeps its objects there.

    Args:
        clip: a clip with truth.
        masks: folder of its resulting masks, named like the truth.
        void: id of pixels that belong to no object, or None.
        protocol: which frames are scored, and what void is.

    Returns:
        A score for each object of the scored frames, in the order of their ids; none if they show no object.

    Raises:
        StmFastError: vos-benchmark is not installed.
        MediaError: too few frames have a truth, or a result is missing or of another aspect.
    """
    needed = protocol.scored.min_annotated
    if len(clip.truth) < needed:
        raise MediaError(f"clip {clip.name} has {len(clip.truth)} annotated frames: scoring needs at least {needed}")
    reader = _Reader(clip, Path(masks), void, protocol)
    if protocol.scored is ScoredFrames.inner:
        scores = _over_inner_frames(reader)
    else:
        scores = _over_frames_of_each_object(reader, given=protocol.scored is ScoredFrames.from_first)
    return sorted(scores, key=lambda score: score.object_id)


class _Reader:
    """Reads the truth of a clip, frame by frame in order, and the results that belong to it."""

    def __init__(self, clip: Clip, masks: Path, void: int | None, protocol: Protocol) -> None:
        self.clip, self.protocol = clip, protocol
        self.frames = list(clip.truth)
        self.void, self._masks = void, masks
        self._colours: dict[Colour, int] = {}

    def labels(self, name: str) -> NDArray[np.uint8]:
        """Return the truth of a frame, void included."""
        return read_labels(self.clip.truth[name], self._colours, void=self.void)

    def pair(self, name: str, labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the result of a frame and its truth, as they are compared."""
        path = self._masks / f"{name}.png"
        if not path.exists():
            raise MediaError(f"clip {self.clip.name} has no result {path}")
        result = read_mask(path)
        truth = fit_mask(labels, result.shape, self.clip.truth[name])
        if self.void is not None and not self.protocol.void_is_background:
            result = np.where(truth == self.void, 0, result)
        return result, without_void(truth, self.void)

    def score(self, evaluator: Any, object_id: int, frames: int, *, within: int | None = None) -> ObjectScore:
        """Return the score of an object that an evaluator was fed under the id `within`, in so many frames."""
        fed = object_id if within is None else within
        j, f = (float(np.mean(numbers[fed])) for numbers in (evaluator.object_iou, evaluator.boundary_f))
        last = ceil(frames / 4)
        j_last = float(np.mean(evaluator.object_iou[fed][-last:])) if self.protocol.last_quarter else None
        return ObjectScore(self.clip.name, object_id, j, f, j_last)


def _over_inner_frames(reader: _Reader) -> list[ObjectScore]:
    first, *inner, _ = reader.frames
    evaluator = _evaluator(reader.clip.name)
    reader.labels(first)  # numbers its colours
    for name in inner:
        evaluator.feed_frame(*reader.pair(name, reader.labels(name)))
    j, _ = evaluator.conclude()
    return [reader.score(evaluator, int(object_id), len(inner)) for object_id in j]


def _over_frames_of_each_object(reader: _Reader, *, given: bool) -> list[ObjectScore]:
    """Score each object in its own frames, with or without the one in which it is given."""
    evaluators: dict[int, Any] = {}
    frames: dict[int, int] = {}
    for name in reader.frames:
        labels = reader.labels(name)
        new = [each for each in object_ids(without_void(labels, reader.void)) if each not in evaluators]
        scored = [*evaluators, *(new if given else ())]
        for each in new:
            evaluators[each] = _evaluator(reader.clip.name)
            evaluators[each].objects_in_gt.add(1)  # so that frames without the object count
        result, truth = reader.pair(name, labels) if scored else (labels, labels)
        for each in scored:
            evaluators[each].feed_frame((result == each).astype(np.uint8), (truth == each).astype(np.uint8))
            frames[each] = frames.get(each, 0) + 1
    return [reader.score(evaluators[each], each, count, within=1) for each, count in frames.items()]


def _evaluator(name: str) -> Any:
    try:
        from vos_benchmark.evaluator import Evaluator
    except ModuleNotFoundError as error:
        raise StmFastError(f"scoring needs vos-benchmark: pip install 'stm-fast[eval]' ({error})") from error
    except ImportError as error:
        raise StmFastError(f"vos-benchmark cannot be imported: {error}; a system library may be missing") from error
    return Evaluator(boundary=BOUNDARY, name=name)
