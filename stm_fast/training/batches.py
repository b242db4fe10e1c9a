"""Batches of clips: which frames, which crop, which objects."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stm_fast.data.synthetic.assets import Picture
from stm_fast.data.synthetic.clips import SyntheticClip
from stm_fast.data.synthetic.pool import ClipPool

MIN_OBJECT_AREA = 0.003

Example: TypeAlias = tuple[Picture, Picture]
"""Frames `(T, S, S, 3)` and masks `(T, S, S)` of a clip, uint8."""


@dataclass(frozen=True)
class Batch:
    """B clips of T frames with N objects in all.

    Attributes:
        frames: `(B, T, 3, S, S)` float32 in [0, 1].
        masks: `(B, T, S, S)` int64; 0 is background, 1..K the clip's objects.
        clip: the clip of each object `(N,)` int64.
        slot: its id in that clip's masks minus one `(N,)` int64.
    """

    frames: Tensor
    masks: Tensor
    clip: Tensor
    slot: Tensor

    @property
    def slots(self) -> int:
        """K: the largest number of objects in one clip."""
        return int(self.slot.max()) + 1

    def object_masks(self, time: int) -> Tensor:
        """Return the true mask of each object in one frame, `(N, S, S)` float32."""
        return (self.masks[self.clip, time] == (self.slot + 1)[:, None, None]).float()


@dataclass(frozen=True)
class Sampling:
    """How a batch is drawn.

    Attributes:
        clips: clips per batch.
        frames: frames per clip, in order or reversed; half of the time neighbours, else with random gaps.
        size: side of a frame in pixels, a multiple of 16.
        max_objects: objects kept per clip; the rest become background.
        smallest_crop: side of the smallest crop as a fraction of the stored frame.
    """

    clips: int
    frames: int
    size: int
    max_objects: int = 2
    smallest_crop: float = 0.6


class BatchSampler:
    """Draws batches from a pool. A batch depends only on the seed and the step, so that a run can resume."""

    def __init__(self, pool: ClipPool, seed: int) -> None:
        self.pool = pool
        self.seed = seed

    def draw(self, step: int, sampling: Sampling) -> list[Example]:
        """Draw the examples of one step for `collate`, without torch, so that a thread can do it while a step runs."""
        rng = np.random.default_rng([self.seed, step])
        drawn: list[Example] = []
        while len(drawn) < sampling.clips:
            clip = self.pool[int(rng.integers(len(self.pool)))]
            example = _augment(clip, sampling, rng)
            if example is not None:
                drawn.append(example)
        return drawn


def collate(examples: list[Example]) -> Batch:
    """Make a batch of frames `(T, S, S, 3)` uint8 and masks `(T, S, S)` whose ids on the first frame are 1..n."""
    frames = torch.from_numpy(np.stack([frames for frames, _ in examples]))
    masks = torch.from_numpy(np.stack([masks for _, masks in examples])).long()
    counts = [int(masks[0].max()) for _, masks in examples]
    return Batch(
        frames=frames.permute(0, 1, 4, 2, 3).float() / 255,
        masks=masks,
        clip=torch.repeat_interleave(torch.arange(len(examples)), torch.tensor(counts)),
        slot=torch.cat([torch.arange(count) for count in counts]),
    )


def _augment(clip: SyntheticClip, sampling: Sampling, rng: np.random.Generator) -> Example | None:
    """Draw frames, crop, flip and objects of a clip; return None if no object is left on the first frame."""
    order = _order(len(clip.frames), sampling.frames, rng)
    if not clip.masks[order[0]].any():
        return None
    crop = _crop(clip.masks[order[0]], sampling, rng)
    masks = _resize_masks(np.asarray(clip.masks[order][:, crop[0], crop[1]]), sampling.size)
    area = np.bincount(masks[0].ravel(), minlength=256)[1:] / masks[0].size
    visible = 1 + np.flatnonzero(area > MIN_OBJECT_AREA)
    if not len(visible):
        return None
    keep = rng.permutation(visible)[: int(rng.integers(1, sampling.max_objects + 1))]
    table = np.zeros(256, np.uint8)
    table[keep] = np.arange(1, len(keep) + 1)
    frames = _resize_frames(np.asarray(clip.frames[order][:, crop[0], crop[1]]), sampling.size)
    masks = table[masks]
    if rng.random() < 0.5:
        frames, masks = frames[:, :, ::-1], masks[:, :, ::-1]
    return np.ascontiguousarray(frames), np.ascontiguousarray(masks)


def _order(stored: int, frames: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw frames, forwards or backwards: half of the time neighbours, else with random gaps."""
    if rng.random() < 0.5:
        order = int(rng.integers(stored - frames + 1)) + np.arange(frames)
    else:
        order = np.sort(rng.choice(stored, frames, replace=False))
    return order[::-1] if rng.random() < 0.5 else order


def _crop(mask: Picture, sampling: Sampling, rng: np.random.Generator) -> tuple[slice, slice]:
    """Draw a square that contains an object's pixel at a random place."""
    side = len(mask)
    crop = round(side * float(rng.uniform(sampling.smallest_crop, 1.0)))
    rows, columns = np.nonzero(mask)
    pick = int(rng.integers(len(rows)))
    starts = []
    for centre in (int(rows[pick]), int(columns[pick])):
        low, high = max(0, centre - crop + 1), min(centre, side - crop)
        starts.append(int(rng.integers(low, high + 1)))
    return slice(starts[0], starts[0] + crop), slice(starts[1], starts[1] + crop)


def _resize_frames(frames: Picture, size: int) -> Picture:
    import cv2

    method = cv2.INTER_AREA if frames.shape[1] > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(np.ascontiguousarray(frame), (size, size), interpolation=method) for frame in frames])


def _resize_masks(masks: Picture, size: int) -> Picture:
    import cv2

    return np.stack(
        [cv2.resize(np.ascontiguousarray(mask), (size, size), interpolation=cv2.INTER_NEAREST) for mask in masks]
    )
