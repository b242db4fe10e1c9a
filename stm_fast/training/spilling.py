"""Surroundings added to predicted masks, in training.

What a mask takes of its surroundings, or of another object, is remembered as the object and taken again: a ghost stays
where the object was, and a look-alike loses a leg to another one. So surroundings are added to what is remembered, and
the network learns to give them back.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_SHARE, MAX_SHARE = 0.1, 0.5
"""Bounds of the share of an object's surroundings that is added."""
MIN_WIDTH, MAX_WIDTH = 0.02, 0.15
"""Bounds of the width of the surroundings, as a share of a frame's side."""
LASTING = 0.5
"""Share of the objects that take more in all frames to the end of the clip; the others, in one frame."""
PATCHES = 5
"""Patches along a frame's side."""
_MIN_PIXELS = 64


class Spilling:
    """What is added to the masks of the N objects of a batch of clips, drawn at random.

    The part added stays in its place, as a ghost does, while the object moves on.

    Args:
        share: share of the objects that take more, in [0, 1].
        clip: the clip of each object `(N,)`; what one takes is taken from the others of its clip.
        frames: frames T of a clip. Parts are added in frames 1..T-2, which are predicted and then remembered.
        generator: source of random numbers, on the CPU. The same state gives the same parts.
    """

    def __init__(self, share: float, clip: Tensor, frames: int, generator: torch.Generator) -> None:
        objects = len(clip)

        def uniform() -> Tensor:
            return torch.rand(objects, generator=generator)

        chosen = uniform() < share
        self._clip = clip
        self._first = torch.where(chosen, 1 + (uniform() * (frames - 2)).long(), frames)
        self._last = torch.where(uniform() < LASTING, frames, self._first)
        self._amount = MIN_SHARE + (MAX_SHARE - MIN_SHARE) * uniform()
        self._width = MIN_WIDTH + (MAX_WIDTH - MIN_WIDTH) * uniform()
        self._patches = torch.randn(objects, 1, PATCHES, PATCHES, generator=generator)
        self._parts: dict[int, Tensor] = {}

    @torch.no_grad()
    def added(self, time: int, soft: Tensor) -> Tensor:
        """Return the pixels that each object takes in a frame, bool `(N, 1, S, S)`.

        Args:
            time: number of the frame, ascending from call to call.
            soft: probabilities of the objects `(N, 1, S, S)`.
        """
        added = torch.zeros_like(soft, dtype=torch.bool)
        for index in torch.nonzero((self._first <= time) & (time <= self._last)).flatten().tolist():
            if index not in self._parts:
                inside = soft[index, 0] > 0.5
                if int(inside.sum()) < _MIN_PIXELS:
                    continue
                self._parts[index] = self._part(index, inside)
            added[index, 0] = self._parts[index]
        return added

    def spill(self, time: int, soft: Tensor) -> Tensor:
        """Return the probabilities `(N, 1, S, S)` with what is added; arguments are those of `added`."""
        added = self.added(time, soft)
        if not added.any():
            return soft
        of_clip = torch.stack([added[self._clip == clip].any(0) for clip in self._clip])
        return torch.where(added, 1.0, soft * ~(of_clip & ~added))

    def _part(self, index: int, inside: Tensor) -> Tensor:
        """Return the part that an object takes, bool `(S, S)`: patches of its surroundings."""
        reach = max(2, round(float(self._width[index]) * inside.shape[0]))
        near = F.max_pool2d(inside[None].float(), 2 * reach + 1, stride=1, padding=reach)[0] > 0
        around = near & ~inside
        if not around.any():
            return around
        patches = F.interpolate(self._patches[index, None].to(inside.device), inside.shape, mode="bicubic")[0, 0]
        return around & (patches > torch.quantile(patches[around], 1 - float(self._amount[index])))
