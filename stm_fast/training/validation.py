"""Validation: loss and J on clips that training never sees, and J&F on whole videos."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from stm_fast.data.clips import Dataset
from stm_fast.errors import MediaError
from stm_fast.evaluation.clip_score import check_scoring
from stm_fast.evaluation.object_score import MeanScore
from stm_fast.evaluation.protocol import Protocol
from stm_fast.evaluation.run import run_clip
from stm_fast.evaluation.score import score_set
from stm_fast.inference.segmenter import Segmenter
from stm_fast.models.stm import STM
from stm_fast.training.batch import Batch, collate
from stm_fast.training.losses import cross_entropy, hard_iou
from stm_fast.training.network import Rollout
from stm_fast.training.recipe import Validation
from stm_fast.training.sampler import draw
from stm_fast.training.sampling import ClipSource, Sampling


@dataclass(frozen=True)
class Scores:
    """What a validation measured; None for what it did not.

    Attributes:
        loss: mean cross-entropy of the clips.
        j: mean over clips of the mean IoU of their objects, in [0, 1].
        jf: mean J&F over the objects of the videos, in [0, 1].
    """

    loss: float | None = None
    j: float | None = None
    jf: float | None = None

    def measured(self) -> dict[str, float]:
        """Return what was measured, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def joined(self, other: "Scores") -> "Scores":
        """Return these scores and what another validation of the same weights measured."""
        return Scores(**{**self.measured(), **other.measured()})

    def merit(self, name: str) -> float | None:
        """Return a number that is larger for better weights, by the score of a name; None if it was not measured."""
        value: float | None = getattr(self, name)
        return -value if name == "loss" and value is not None else value


class HeldOut:
    """Clips of a source, spread evenly over it: the same ones in every validation.

    Args:
        source: what training never sees.
        settings: how many clips, and which.
        seed: of the draws.
    """

    def __init__(self, source: ClipSource, settings: Validation, seed: int = 0) -> None:
        self._source, self._seed = source, seed
        self._indices = np.linspace(0, len(source) - 1, settings.clips).round().astype(int)
        self._sampling = Sampling(
            clips=1,
            frames=settings.frames,
            size=settings.size,
            max_objects=settings.max_objects,
            max_skip=settings.max_skip,
            smallest_crop=1.0,
        )

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches of one clip."""
        for number, index in enumerate(self._indices):
            yield collate([draw(self._source, int(index), (self._seed, number), self._sampling)])


@torch.no_grad()
def score_clips(rollout: Rollout, clips: HeldOut, device: torch.device) -> Scores:
    """Segment clips as in training, and return their loss and J."""
    losses, overlaps = [], []
    for each in clips:
        batch = each.to(device)
        logits = rollout(batch.frames, batch.masks, batch.clip, batch.slot)
        losses.append(float(cross_entropy(logits, batch.masks[:, 1:]).mean()))
        overlaps.append(float(hard_iou(logits, batch).mean()))
    return Scores(float(np.mean(losses)), float(np.mean(overlaps)))


def check_videos(videos: Dataset, protocol: Protocol) -> None:
    """Raise an error if videos cannot be validated on, before hours of training.

    Raises:
        StmFastError: vos-benchmark is not installed.
        MediaError: no video has masks to score against.
    """
    check_scoring()
    if len(protocol.unscored(videos, videos.void)) == len(videos):
        raise MediaError(f"{videos.name} has no masks to score against: choose another set for validation.videos")


def score_videos(model: STM, videos: Dataset, protocol: Protocol, folder: Path) -> Scores:
    """Segment videos from their first masks, as `stm-fast evaluate` does, and return their J&F.

    Args:
        model: the network, on the device to run on.
        videos: with masks to score against; those without are left out.
        protocol: how they are scored.
        folder: for masks, which are deleted afterwards.
    """
    unscored = protocol.unscored(videos, videos.void)
    segmenter = Segmenter(model, size="auto")
    with TemporaryDirectory(dir=folder, prefix=".masks") as out:
        folders = {clip.name: Path(out) / videos.masks_folder / clip.name for clip in videos}
        for clip in videos:
            if clip.name not in unscored:
                run_clip(segmenter, clip, videos, out, lambda: None, videos.void)
        scores, _ = score_set(videos, folders, unscored, videos.void, protocol)
    return Scores(jf=MeanScore.of(scores).jf if scores else None)
