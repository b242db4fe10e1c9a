"""Region similarity J and boundary accuracy F of one clip's masks on disk, by vos-benchmark."""

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.clips import Clip
from stm_fast.data.video.object_masks import ObjectMasks
from stm_fast.errors import MediaError, StmFastError
from stm_fast.evaluation.object_score import ObjectScore
from stm_fast.evaluation.protocol import VOS_BENCHMARK, Protocol, ScoredFrames
from stm_fast.media.masks import Colour, fit_mask, object_ids, read_labels, read_mask, without_void

BOUNDARY = 0.008
"""Tolerance of F, as a share of the frame's diagonal (Perazzi et al., CVPR 2016; davis2017-evaluation's `bound_th`)."""


def check_scoring() -> None:
    """Raise `StmFastError` where vos-benchmark cannot be used, before hours of segmenting."""
    _evaluator("")


def score_clip(
    clip: Clip, masks: str | Path, void: int | None = None, protocol: Protocol = VOS_BENCHMARK
) -> list[ObjectScore]:
    """Score a clip's objects.

    Masks are read by the rules of `stm_fast.media.masks.read_mask`, so 0/255 masks need no conversion. A colour means
    the same object in all truth, and the same in all results.

    A frame in which neither the truth nor the result has an object scores 1. Objects of which no prompt shows a mask,
    so that none can be followed, are not scored if the inner frames of the clip are.

    Objects whose true masks overlap, as in SA-V, are each compared with their own mask, unless they are scored from
    their appearance on, as in vos-benchmark.

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
    together = protocol.scored is ScoredFrames.inner_from_appearance
    scores = _from_appearance(reader) if together else _in_frames_of_objects(reader)
    return sorted(scores, key=lambda score: score.object_id)


class _Reader:
    """Reads the truth of a clip and the results that belong to it."""

    def __init__(self, clip: Clip, masks: Path, void: int | None, protocol: Protocol) -> None:
        self.clip, self.protocol = clip, protocol
        self._void, self._masks = void, masks
        self._colours: dict[Colour, int] = {}
        self._colours_of_results: dict[Colour, int] = {}

    def labels(self, name: str) -> NDArray[np.uint8]:
        """Return the truth of a frame, void included. The first masks are read in order: they number colours."""
        return read_labels(self.clip.truth[name], self._colours, void=self._void)

    def objects(self, name: str) -> Mapping[int, NDArray[np.bool_]]:
        """Return the true mask of each object that is annotated in a frame."""
        if isinstance(stored := self.clip.truth[name], ObjectMasks):
            return stored.objects()
        ids = without_void(self.labels(name), self._void)
        return {each: ids == each for each in object_ids(ids)}

    def given(self) -> frozenset[int]:
        """Return the objects that the prompts show."""
        masks = (read_mask(mask, self._colours, void=self._void) for mask in self.clip.prompts.values())
        return frozenset(each for mask in masks for each in object_ids(mask))

    def result(self, name: str, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the result of a frame, without void pixels of the truth that are not scored."""
        path = self._masks / f"{name}.png"
        if not path.exists():
            raise MediaError(f"clip {self.clip.name} has no result {path}")
        result = read_mask(path, self._colours_of_results)
        if self._void is None or self.protocol.void_is_background:
            return result
        return np.where(self.fit(labels, result, name) == self._void, 0, result).astype(np.uint8)

    def fit(self, truth: NDArray[np.uint8], result: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        """Return the truth of a frame at the size of its result."""
        return fit_mask(truth, result.shape, self.clip.truth[name])

    def without_void(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return truth whose void pixels are background."""
        return without_void(labels, self._void)

    def score(self, evaluator: Any, object_id: int, frames: int, *, within: int | None = None) -> ObjectScore:
        """Return the score of an object that an evaluator was fed under the id `within`, in so many frames."""
        fed = object_id if within is None else within
        j, f = (float(np.mean(numbers[fed])) for numbers in (evaluator.object_iou, evaluator.boundary_f))
        last = ceil(frames / 4)
        j_last = float(np.mean(evaluator.object_iou[fed][-last:])) if self.protocol.last_quarter else None
        return ObjectScore(self.clip.name, object_id, j, f, j_last)


def _from_appearance(reader: _Reader) -> list[ObjectScore]:
    """Score all objects together in the inner frames of the clip, as vos-benchmark does."""
    first, *inner, _ = reader.clip.truth
    evaluator = _evaluator(reader.clip.name)
    reader.labels(first)
    for name in inner:
        labels = reader.labels(name)
        result = reader.result(name, labels)
        evaluator.feed_frame(result, reader.fit(reader.without_void(labels), result, name))
    j, _ = evaluator.conclude()
    return [reader.score(evaluator, int(object_id), len(inner)) for object_id in j]


def _in_frames_of_objects(reader: _Reader) -> list[ObjectScore]:
    """Score each object in its own frames."""
    annotated = {name: frozenset(reader.objects(name)) for name in reader.clip.truth}
    rule = reader.protocol.scored
    scored = rule.of_objects(annotated, reader.given() if rule is ScoredFrames.inner else ())
    evaluators = {}
    for object_id, frames in scored.items():
        evaluators[object_id] = _evaluator(reader.clip.name)
        if rule is not ScoredFrames.inner_of_object and frames:
            evaluators[object_id].objects_in_gt.add(1)  # so that frames without the object count
    for name in reader.clip.truth:
        due = [object_id for object_id, frames in scored.items() if name in frames]
        if not due:
            continue
        result, truth = reader.result(name, reader.labels(name)), reader.objects(name)
        nowhere = np.zeros(result.shape, np.uint8)
        for object_id in due:
            own = reader.fit(truth[object_id].astype(np.uint8), result, name) if object_id in truth else nowhere
            evaluators[object_id].feed_frame((result == object_id).astype(np.uint8), own)
    return [
        reader.score(evaluator, object_id, len(scored[object_id]), within=1)
        for object_id, evaluator in evaluators.items()
        if evaluator.conclude()[0]
    ]


def _evaluator(name: str) -> Any:
    try:
        from vos_benchmark.evaluator import Evaluator
    except ModuleNotFoundError as error:
        raise StmFastError(f"scoring needs vos-benchmark: pip install 'stm-fast[eval]' ({error})") from error
    except ImportError as error:
        raise StmFastError(f"vos-benchmark cannot be imported: {error}; a system library may be missing") from error
    return Evaluator(boundary=BOUNDARY, name=name)
