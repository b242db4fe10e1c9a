"""An STM small enough to predict by hand, as fixtures: it follows colours, one a 16×16 block."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stm_fast.models.stm import STM

Blocks = Callable[..., NDArray[np.integer]]
COLOURS = {".": (0, 0, 0), "r": (255, 0, 0), "g": (0, 255, 0), "b": (0, 0, 255)}
BLOCK = 16


class ColourQuery(nn.Module):
    """Four features a block: red, green, blue and darkness."""

    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        colours = F.avg_pool2d(frames, BLOCK)
        return torch.cat([colours, 1 - colours.amax(1, keepdim=True)], 1), ()


class ColourMemory(nn.Module):
    """The query's features with the part of each block that the object and the others cover."""

    def forward(self, frames: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        colours, _ = ColourQuery()(frames)
        planes = [F.avg_pool2d(plane, BLOCK) for plane in (masks, others)]
        return torch.cat([colours.expand(masks.shape[0], -1, -1, -1), *planes], 1)


class Split(nn.Module):
    """Key: the colour, sharpened; value: what comes after `start`."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start
        self.gain = nn.Parameter(torch.tensor(10.0))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.gain * features[:, :4], features[:, self.start : self.start + 2]


class Threshold(nn.Module):
    """An object is where its memory covered more than half."""

    def forward(self, readout: Tensor, value: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        logit = 20 * (readout[:, :1] - 0.5)
        return F.interpolate(torch.cat([-logit, logit], 1), scale_factor=BLOCK)


def blocks_of(mask: Tensor) -> list[str]:
    """Return a mask of whole 16×16 blocks as the rows of digits that drew it."""
    cells = mask[::BLOCK, ::BLOCK]
    drawn = cells.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    assert torch.equal(drawn[: mask.shape[0], : mask.shape[1]], mask)
    return ["".join(map(str, row)) for row in cells.tolist()]


@pytest.fixture
def model() -> STM:
    return STM(ColourQuery(), ColourMemory(), Split(0), Split(4), Threshold()).eval()


@pytest.fixture
def paint() -> Callable[..., NDArray[np.uint8]]:
    """Rows of initials (. r g b) -> a frame of 16×16 blocks of these colours."""
    return lambda *rows: _blocks([[COLOURS[cell] for cell in row] for row in rows]).astype(np.uint8)


@pytest.fixture
def ids() -> Callable[..., NDArray[np.int64]]:
    """Rows of digits -> a mask of 16×16 blocks of these ids."""
    return lambda *rows: _blocks([[int(cell) for cell in row] for row in rows])


def _blocks(cells: list) -> NDArray[np.int64]:
    return np.array(cells).repeat(BLOCK, 0).repeat(BLOCK, 1)
