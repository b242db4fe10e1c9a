"""Clips of a pool of synthetic clips."""

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.pool import ClipPool
from stm_fast.errors import ArgumentError
from stm_fast.training.augment.affine import Picture
from stm_fast.training.augment.opencv import opencv
from stm_fast.training.batch import Example
from stm_fast.training.sampling import Sampling
from stm_fast.training.sources.objects import large_objects, renumber


class SyntheticSource:
    """Clips of a pool: some of a stored clip's frames, forwards or backwards, in one random square of them.

    Half of the clips are flipped. A random number of the objects on the first frame is kept, from one to `max_objects`.
    A pool has its own frames, and `max_skip` is not used.

    Args:
        pool: clips on disk.
    """

    def __init__(self, pool: ClipPool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return len(self.pool)

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        """Draw a clip from stored clip `index`; see `ClipSource`.

        Raises:
            ArgumentError: stored clips have fewer frames than wanted.
        """
        clip = self.pool[index]
        if sampling.frames > len(clip.frames):
            raise ArgumentError(
                "frames", f"must be at most {len(clip.frames)}, the frames of a stored clip; got {sampling.frames}"
            )
        order = _order(len(clip.frames), sampling.frames, rng)
        if not clip.masks[order[0]].any():
            return None
        rows, columns = _crop(clip.masks[order[0]], sampling, rng)
        masks = _resize_masks(np.asarray(clip.masks[order][:, rows, columns]), sampling.size)
        large = large_objects(masks[0])
        if not len(large):
            return None
        masks = renumber(masks, rng.permutation(large)[: int(rng.integers(1, sampling.max_objects + 1))])
        frames = _resize_frames(np.asarray(clip.frames[order][:, rows, columns]), sampling.size)
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
    cv2 = opencv()
    method = cv2.INTER_AREA if frames.shape[1] > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(np.ascontiguousarray(frame), (size, size), interpolation=method) for frame in frames])


def _resize_masks(masks: Picture, size: int) -> Picture:
    cv2 = opencv()
    return np.stack(
        [cv2.resize(np.ascontiguousarray(mask), (size, size), interpolation=cv2.INTER_NEAREST) for mask in masks]
    )
