"""The reads that are measured: real shapes of the family at 480p."""

from dataclasses import dataclass

import torch
from torch import Tensor

QUERIES = 1620
TOP_K = 30


@dataclass(frozen=True)
class Case:
    """A read of `frames` memory frames, 480p by default; `operation` is read, backward, top_k or usage.

    `dtype` is that of the keys, and of the values too unless `value_dtype` says otherwise.
    """

    operation: str
    dtype: torch.dtype
    key_channels: int
    value_channels: int
    objects: int
    frames: int
    queries: int = QUERIES
    value_dtype: torch.dtype | None = None

    @property
    def flops(self) -> float:
        """Operations of the two products; of scores alone for usage and top-k; of five products for backward.

        The backward pass of top-k has to do with the chosen tokens alone, twice with each side's channels.
        """
        rows = self.objects * self.value_channels
        if self.operation == "top_k_backward":
            return 4.0 * self.queries * TOP_K * (self.key_channels + rows)
        channels = {
            "backward": 3 * self.key_channels + 2 * rows,
            "usage": self.key_channels,
            "top_k": self.key_channels,
        }
        return 2.0 * self.queries**2 * self.frames * channels.get(self.operation, self.key_channels + rows)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query key (1, C, N), memory key (1, C, M) and memory value (1, O, V, M)."""
        random = torch.Generator().manual_seed(0)
        tokens = self.queries * self.frames
        shapes = (self.key_channels, self.queries), (self.key_channels, tokens)
        query, key = (torch.randn(1, *shape, generator=random).to(self.dtype) for shape in shapes)
        value = torch.randn(1, self.objects, self.value_channels, tokens, generator=random)
        value = value.to(self.value_dtype or self.dtype)
        return query, key, value

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        if self.value_dtype:
            dtype += f" keys, {str(self.value_dtype).removeprefix('torch.')} values"
        objects = f" x {self.objects} objects" if self.objects > 1 else ""
        return f"{self.operation}, {dtype}, ({self.key_channels}, {self.value_channels}){objects}, T = {self.frames}"


FRAMES = (1, 5, 20, 100)
DTYPES = (torch.float32, torch.bfloat16)
DENSE = tuple(Case("read", dtype, 128, 512, 1, frames) for frames in FRAMES for dtype in DTYPES)
SHARED = tuple(Case("read", dtype, 64, 512, 4, 5) for dtype in DTYPES)
CUTIE = tuple(Case("read", dtype, 64, 256, 1, 5) for dtype in DTYPES)
BEST = (Case("top_k", torch.float32, 64, 512, 1, 20),)
BACKWARD = tuple(Case("backward", dtype, 128, 512, 1, 5) for dtype in DTYPES)
USAGE = tuple(Case("usage", dtype, 128, 512, 1, 20) for dtype in DTYPES)
ALL = (*DENSE, *SHARED, *CUTIE, *BEST, *BACKWARD, *USAGE)
