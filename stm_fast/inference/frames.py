"""The size and format of frames for the network, and of results for the user."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Image: TypeAlias = "NDArray[np.uint8] | NDArray[np.floating] | Tensor"


@dataclass(frozen=True)
class Geometry:
    """The sizes `(height, width)` of a frame: outside and inside the network, and the padding.

    Attributes:
        outer: size of the input and of results.
        inner: size the network sees.
        padding: zeros around it (left, right, top, bottom), the larger half right and bottom.
    """

    outer: tuple[int, int]
    inner: tuple[int, int]
    padding: tuple[int, int, int, int]

    @classmethod
    def of(cls, outer: tuple[int, int], short_side: int | None, multiple: int) -> "Geometry":
        """Return the geometry of frames of size `outer`.

        Args:
            outer: size of the input.
            short_side: shorter side of `inner`, which keeps the aspect ratio; None for `inner` = `outer`.
            multiple: both padded sides are multiples of it.
        """
        inner = outer
        if short_side is not None:
            scale = short_side / min(outer)
            inner = (round(outer[0] * scale), round(outer[1] * scale))
        rows, columns = (-side % multiple for side in inner)
        padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return cls(outer, inner, padding)

    def to_inner(self, x: Tensor) -> Tensor:
        """Resize `(N, C, *outer)` to `(N, C, *inner)`; shrinking averages, so that thin parts do not flicker."""
        if self.inner == self.outer:
            return x
        return F.interpolate(x, size=self.inner, mode="bilinear", align_corners=False, antialias=True)

    def to_outer(self, x: Tensor) -> Tensor:
        """Resize `(N, C, *inner)` to `(N, C, *outer)`."""
        if self.inner == self.outer:
            return x
        return F.interpolate(x, size=self.outer, mode="bilinear", align_corners=False)

    def pad(self, x: Tensor) -> Tensor:
        """Pad `(..., *inner)` with zeros to multiples of the network's stride."""
        return F.pad(x, self.padding) if any(self.padding) else x

    def unpad(self, x: Tensor) -> Tensor:
        """Undo `pad`; return a view."""
        left, _, top, _ = self.padding
        height, width = self.inner
        return x[..., top : top + height, left : left + width]


def fitted(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images or ids `(N, C, h, w)` to fit into `size`, with zeros around them; ids are int64 and stay ids."""
    if x.shape[2:] == size:
        return x
    scale = min(new / old for new, old in zip(size, x.shape[2:], strict=True))
    height, width = (min(new, max(1, round(old * scale))) for new, old in zip(size, x.shape[2:], strict=True))
    if x.is_floating_point():
        x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    else:
        x = F.interpolate(x.double(), size=(height, width), mode="nearest-exact").to(x.dtype)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return F.pad(x, (left, size[1] - width - left, top, size[0] - height - top))


def to_rgb(frame: Image, device: torch.device) -> Tensor:
    """Copy an image to a device as float32 `(1, 3, H, W)` in [0, 1].

    Args:
        frame: numpy `(H, W, 3)` or torch `(3, H, W)` or `(1, 3, H, W)`; uint8, or floating in [0, 1]; any strides.
        device: where the result goes.

    Raises:
        TypeError: neither numpy nor torch, or another dtype.
        ValueError: another shape, or values that are not in [0, 1].
    """
    pixels = _chw(frame)
    if pixels.dtype == torch.uint8:
        return pixels.to(device).float().div_(255)
    if not pixels.is_floating_point():
        raise TypeError(f"frame must be uint8 or floating, got {pixels.dtype}")
    # The caller may fill the same buffer with the next frame before this one is memorised.
    pixels = pixels.to(device, torch.float32, copy=True)
    low, high = (bound.item() for bound in torch.aminmax(pixels))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"frame must be in [0, 1] where it is floating, got values from {low:g} to {high:g}")
    return pixels


def _chw(frame: Image) -> Tensor:
    """Return an image as `(1, 3, H, W)` of its own dtype."""
    if isinstance(frame, np.ndarray):
        if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise ValueError(f"frame must be (H, W, 3) as a numpy array, got {frame.shape}")
        if frame.dtype != np.uint8 and not np.issubdtype(frame.dtype, np.floating):
            raise TypeError(f"frame must be uint8 or floating, got {frame.dtype}")
        return torch.from_numpy(np.array(frame, order="C")).permute(2, 0, 1)[None]
    if isinstance(frame, Tensor):
        single = frame if frame.ndim == 4 else frame[None]
        if single.ndim != 4 or single.shape[:2] != (1, 3) or 0 in single.shape:
            raise ValueError(f"frame must be (3, H, W) or (1, 3, H, W) as a tensor, got {tuple(frame.shape)}")
        return single
    raise TypeError(f"frame must be a numpy array or a tensor, got {type(frame).__name__}")
