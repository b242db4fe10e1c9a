"""Region similarity J and boundary accuracy F of masks on disk, by vos-benchmark."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from stm_fast.data.clips import Clip, Dataset
from stm_fast.errors import MediaError, StmFastError
from stm_fast.media.masks import Colour, fit_mask, read_mask


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
    """The mean of scores, each object counting once: J, F and the mean of both, in [0, 1]."""

    j: float
    f: float
    jf: float

    @classmethod
    def of(cls, scores: Iterable[ObjectScore]) -> "MeanScore":
        """The mean of at least one score."""
        scores = list(scores)
        return cls(*(fmean(getattr(score, name) for score in scores) for name in ("j", "f", "jf")))


def check_scoring() -> None:
    """Raise `StmFastError` where vos-benchmark cannot be used, before hours of segmenting."""
    _evaluator("")


def score_dataset(dataset: Dataset, masks: str | Path) -> list[ObjectScore]:
    """Score all clips, several at a time.

    Args:
        dataset: clips with truth.
        masks: folder of the results, a folder a clip.

    Raises:
        StmFastError: vos-benchmark is not installed.
        MediaError: see `score_clip`.
    """
    with ThreadPoolExecutor() as pool:
        clips = pool.map(lambda clip: score_clip(clip, Path(masks) / clip.name), dataset)
        return [score for scores in clips for score in scores]


def score_clip(clip: Clip, masks: str | Path) -> list[ObjectScore]:
    """The scores of a clip's objects, as the DAVIS semi-supervised protocol has it (Perazzi et al., CVPR 2016).

    The first annotated frame, which was given, and the last one are left out. Truth is read by the rules of
    `stm_fast.media.masks.read_mask`, so 0/255 masks need no conversion. An object counts from the first scored frame
    that it is in, in the truth or in the result.

    Args:
        clip: a clip with truth.
        masks: folder of its resulting masks, named like the truth.

    Raises:
        StmFastError: vos-benchmark is not installed.
        MediaError: fewer than three frames have a truth, no object is in it, or a result is missing or of another
            aspect.
    """
    names = _scored_names(clip)
    evaluator = _evaluator(clip.name)
    colours: dict[Colour, int] = {}
    read_mask(clip.truth[next(iter(clip.truth))], colours)
    for name in names:
        path = Path(masks) / f"{name}.png"
        if not path.exists():
            raise MediaError(f"clip {clip.name} has no result {path}")
        result = read_mask(path)
        evaluator.feed_frame(result, fit_mask(read_mask(clip.truth[name], colours), result.shape, clip.truth[name]))
    j, f = evaluator.conclude()
    if not j:
        raise MediaError(f"clip {clip.name} has no object in the masks of its scored frames")
    return [ObjectScore(clip.name, int(i), float(j[i]) / 100, float(f[i]) / 100) for i in sorted(j)]


def check_clip(clip: Clip) -> None:
    """Raise `MediaError` for a clip that cannot be scored, before it is segmented."""
    frames = clip.open()
    for name in _scored_names(clip):
        if not frames.may_hold(name):
            raise MediaError(f"clip {clip.name} has a mask {clip.truth[name]} but no frame of that name")


def _scored_names(clip: Clip) -> list[str]:
    names = list(clip.truth)[1:-1]
    if not names:
        raise MediaError(f"clip {clip.name} has {len(clip.truth)} annotated frames: scoring needs at least 3")
    return names


def _evaluator(name: str) -> Any:
    try:
        from vos_benchmark.evaluator import Evaluator
    except ModuleNotFoundError as error:
        raise StmFastError(f"scoring needs vos-benchmark: pip install 'stm-fast[eval]' ({error})") from error
    except ImportError as error:
        raise StmFastError(f"vos-benchmark cannot be imported: {error}; a system library may be missing") from error
    return Evaluator(name=name)
