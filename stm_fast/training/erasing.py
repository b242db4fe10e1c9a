"""Erased parts of predicted masks, in training.

A part that is lost in one frame is remembered as background, and is then lost in the frames after it. A rollout over
easy clips rarely shows this: so parts are erased from what is remembered, and the network learns to win them back.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_SHARE, MAX_SHARE = 0.15, 0.7
"""Bounds of the share of an object's area that is erased."""
LASTING = 0.5
"""Share of the erased parts that stay erased to the end of the clip; the others come back after a frame."""
PATCHES = 5
"""Patches along a frame's side."""
_MIN_PIXELS = 64


class Erasing:
    """What is erased from the masks of the N objects of a batch of clips, drawn at random.

    An erased part is a patch, or of one colour, or something between.

    Args:
        share: share of the objects that lose a part, in [0, 1].
        objects: number of objects N.
        frames: frames T of a clip. Parts are erased from frames 1..T-2, which are predicted and then remembered.
        generator: source of random numbers, on the CPU. The same state gives the same parts.
    """

    def __init__(self, share: float, objects: int, frames: int, generator: torch.Generator) -> None:
        def uniform() -> Tensor:
            return torch.rand(objects, generator=generator)

        chosen = uniform() < share
        self._first = torch.where(chosen, 1 + (uniform() * (frames - 2)).long(), frames)
        self._last = torch.where(uniform() < LASTING, frames, self._first)
        self._amount = MIN_SHARE + (MAX_SHARE - MIN_SHARE) * uniform()
        self._colour_weight = uniform()
        self._place = uniform()
        self._patches = torch.randn(objects, 1, PATCHES, PATCHES, generator=generator)
        self._colours: dict[int, Tensor] = {}

    @torch.no_grad()
    def kept(self, time: int, frames: Tensor, soft: Tensor) -> Tensor:
        """Return 0 where a mask is erased and 1 elsewhere, `(N, 1, S, S)` of the dtype of `soft`.

        Args:
            time: number of the frame, ascending from call to call.
            frames: the frame of each object's clip `(N, 3, S, S)`.
            soft: probabilities of the objects `(N, 1, S, S)`.
        """
        kept = torch.ones_like(soft)
        for index in torch.nonzero((self._first <= time) & (time <= self._last)).flatten().tolist():
            inside = soft[index, 0] > 0.5
            if int(inside.sum()) < _MIN_PIXELS:
                continue
            field = self._field(index, frames[index], inside)
            kept[index, 0] = (field > torch.quantile(field[inside], float(self._amount[index]))).to(soft.dtype)
        return kept

    def _field(self, index: int, frame: Tensor, inside: Tensor) -> Tensor:
        """Return a number for each pixel `(S, S)`; those where it is lowest belong to the part."""
        if index not in self._colours:
            colours = frame[:, inside]
            self._colours[index] = colours[:, int(self._place[index] * colours.shape[1])]
        distance = (frame - self._colours[index][:, None, None]).norm(dim=0)
        patches = F.interpolate(self._patches[index, None].to(frame), frame.shape[1:], mode="bicubic")[0, 0]
        weight = float(self._colour_weight[index])
        field: Tensor = weight * distance / distance.std().clamp(min=1e-6) + (1 - weight) * patches
        return field
