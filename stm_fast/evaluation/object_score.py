"""Scores of objects, and their means."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean


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
    kinds = {name: [score for score in scores if score.unseen is kind] for name, kind in KINDS.items()}
    found |= {name: MeanScore.of(own) for name, own in kinds.items() if own}
    if all(kinds.values()):
        seen, unseen = found["seen"], found["unseen"]
        j, f = (seen.j + unseen.j) / 2, (seen.f + unseen.f) / 2
        found["overall"] = MeanScore(j, f, (j + f) / 2)
    return found


KINDS = {"seen": False, "unseen": True}
"""`ObjectScore.unseen` of the objects of each kind."""
