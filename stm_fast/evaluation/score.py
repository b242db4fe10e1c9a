"""Region similarity J and boundary accuracy F of masks on disk, by vos-benchmark."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from stm_fast.data.clips import Clip
from stm_fast.data.truth import MIN_ANNOTATED_FRAMES
from stm_fast.errors import MediaError, StmFastError
from stm_fast.media.masks import Colour, fit_mask, read_labels, read_mask, without_void


@dataclass(frozen=True)
class ObjectScore:
    """The scores of one object in one clip, averaged over its frames.

    Attributes:
        clip: name of the clip.
        object_id: id of the object.
        j: region similarity, intersection over union, in [0, 1].
        f: boundary accuracy, F-measure of the outlines within 0.8 % of the frame's diagonal, in [0, 1].
    """

    clip: str
    object_id: int
    j: float
    f: float

    @property
    def jf(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class MeanScore:
    """The mean over objects: J, F and the mean of both, in [0, 1]."""

    j: float
    f: float
    jf: float

    @classmethod
    def of(cls, scores: Iterable[ObjectScore]) -> "MeanScore":
        """Return the mean of at least one score."""
        scores = list(scores)
        return cls(*(fmean(getattr(score, name) for score in scores) for name in ("j", "f", "jf")))


def check_scoring() -> None:
    """Raise `StmFastError` where vos-benchmark cannot be used, before hours of segmenting."""
    _evaluator("")


def score_dataset(clips: Iterable[Clip], masks: str | Path, void: int | None = None) -> list[ObjectScore]:
    """Score clips, several at a time.

    Args:
        clips: clips that can be scored; see `stm_fast.data.truth.unscored_because`.
        masks: folder of the results, with one folder per clip.
        void: see `score_clip`.

    Returns:
        The scores of all objects in scored frames.

    Raises:
        StmFastError: vos-benchmark is not installed.
        MediaError: see `score_clip`.
    """
    with ThreadPoolExecutor() as pool:
        scores = pool.map(lambda clip: score_clip(clip, Path(masks) / clip.name, void), clips)
        return [score for found in scores for score in found]


def score_clip(clip: Clip, masks: str | Path, void: int | None = None) -> list[ObjectScore]:
    """Score a clip's objects by the DAVIS semi-supervised protocol (Perazzi et al., CVPR 2016).

    The first annotated frame, which was given, and the last one are not scored. Truth is read by the rules of
    `stm_fast.media.masks.read_mask`, so 0/255 masks need no conversion. An object counts from the first scored frame
    that it is in, in the truth or in the result.

    Pixels that are `void` in the truth become background in truth and result. J leaves them out, and F compares the
    outlines of what remains, as the measures of davis2017-evaluation do.

    Args:
        clip: a clip with truth.
        masks: folder of its resulting masks, named like the truth.
        void: id of pixels that are not scored, or None to score all.

    Returns:
        A score for each object of the scored frames, in the order of their ids; none if they show no object.

    Raises:
        StmFastError: vos-benchmark is not installed.
        MediaError: fewer than three frames have a truth, or a result is missing or of another aspect.
    """
    if len(clip.truth) < MIN_ANNOTATED_FRAMES:
        raise MediaError(
            f"clip {clip.name} has {len(clip.truth)} annotated frames: scoring needs at least {MIN_ANNOTATED_FRAMES}"
        )
    names = list(clip.truth)
    evaluator = _evaluator(clip.name)
    colours: dict[Colour, int] = {}
    read_labels(clip.truth[names[0]], colours, void=void)
    for name in names[1:-1]:
        path = Path(masks) / f"{name}.png"
        if not path.exists():
            raise MediaError(f"clip {clip.name} has no result {path}")
        result = read_mask(path)
        truth = fit_mask(read_labels(clip.truth[name], colours, void=void), result.shape, clip.truth[name])
        if void is not None:
            result = np.where(truth == void, 0, result)
        evaluator.feed_frame(result, without_void(truth, void))
    j, f = evaluator.conclude()
    return [ObjectScore(clip.name, int(i), float(j[i]) / 100, float(f[i]) / 100) for i in sorted(j)]


def _evaluator(name: str) -> Any:
    try:
        from vos_benchmark.evaluator import Evaluator
    except ModuleNotFoundError as error:
        raise StmFastError(f"scoring needs vos-benchmark: pip install 'stm-fast[eval]' ({error})") from error
    except ImportError as error:
        raise StmFastError(f"vos-benchmark cannot be imported: {error}; a system library may be missing") from error
    return Evaluator(name=name)
