"""Masks of the frame before, carried to where things are now.

The match of a memory read knows what things look like, not where they are, so things that look alike share all their
masks. Between a frame and the next one, place tells them apart.
"""

import torch
from torch import Tensor, nn

from stm_fast.ops import memory_read

REACH = 4.0
"""Initial standard deviation of steps from a frame to the next one, in locations."""


class Carry(nn.Module):
    """A read of the frame before, by keys and by place.

    To similarities of keys, −d²/2σ² is added, d being the distance of two locations and σ a learned `reach`: four more
    channels of keys. Similarities have a learned factor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reach = nn.Parameter(torch.tensor(REACH))
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, key: Tensor, past_key: Tensor, values: Tensor) -> Tensor:
        """Return values where things are now, `(N, C, h, w)`.

        Args:
            key: keys of the frame `(1 or N, Ck, h, w)`.
            past_key: those of the frame before, likewise.
            values: of the frame before, `(N, C, h, w)`.
        """
        here, there = places(key)[0], places(past_key)[1]
        channels = key.shape[1]
        # The read divides by the root of all channels.
        scale = (1 + len(here) / channels) ** 0.5
        nearness = scale * channels**0.5 / self.reach.square()
        query = torch.cat([scale * self.gain * key, (nearness * here).expand(len(key), -1, -1, -1)], 1)
        memory = torch.cat([past_key, there.expand(len(key), -1, -1, -1)], 1)
        return memory_read(query, memory, values[None])[0] if len(key) == 1 else memory_read(query, memory, values)


def places(grid: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors `(4, h, w)` for a grid `(N, C, h, w)`.

    Inner products of one with the other are −d²/2, d being the distance of two locations.
    """
    rows, columns = (
        torch.arange(size, device=grid.device, dtype=torch.float32) - (size - 1) / 2 for size in grid.shape[2:]
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    half, one = (x.square() + y.square()) / 2, torch.ones_like(x)
    return torch.stack([x, y, -half, one]).to(grid.dtype), torch.stack([x, y, one, -half]).to(grid.dtype)
