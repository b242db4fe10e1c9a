"""The registry of measured reads: real shapes of the family at 480p."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

QUERIES = 1620
TOP_K = 30
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
TOP_K_TOLERANCE = 1e-2
"""Tolerance of top-k: if scores are nearly equal, different roundings choose different tokens."""


@dataclass(frozen=True)
class Case:
    """A read of `frames` memory frames, 480p by default.

    `operation` is read, backward, top_k, top_k_backward or usage. `dtype` is that of the keys, and of the values unless
    `value_dtype` is given. An affine read has gain, offset and bias, some of them −inf. With `channels_last` the
    channels of a token are adjacent in memory. A packed memory has no room between its channels; a bank has.
    """

    operation: str
    dtype: torch.dtype
    key_channels: int
    value_channels: int
    objects: int
    frames: int
    queries: int = QUERIES
    value_dtype: torch.dtype | None = None
    affine: bool = False
    channels_last: bool = False
    packed: bool = False
    top_k: int = TOP_K

    @property
    def flops(self) -> float:
        """Operations of the two products; of the scores only for usage and top-k; of five products for backward.

        The backward pass of top-k visits only the chosen tokens, twice for keys and twice for values.
        """
        value_channels = self.objects * self.value_channels
        if self.operation == "top_k_backward":
            return 4.0 * self.queries * self.top_k * (self.key_channels + value_channels)
        channels = {
            "backward": 3 * self.key_channels + 2 * value_channels,
            "usage": self.key_channels,
            "top_k": self.key_channels,
        }
        return 2.0 * self.queries**2 * self.frames * channels.get(self.operation, self.key_channels + value_channels)

    @property
    def tolerance(self) -> float:
        """Largest relative error that is not a mistake."""
        coarse = max(TOLERANCE[self.dtype], TOLERANCE[self.value_dtype or self.dtype])
        return max(coarse, TOP_K_TOLERANCE if self.operation.startswith("top_k") else 0.0)

    def tensors(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """Return query key (1, C, N), memory key (1, C, M) and memory value (1, O, V, M)."""
        random = torch.Generator(device).manual_seed(0)
        tokens = self.queries * self.frames

        def normal(*shape: int, dtype: torch.dtype) -> Tensor:
            tensor = torch.randn(1, *shape, generator=random, device=device).to(dtype)
            return tensor.mT.contiguous().mT if self.channels_last else tensor

        return (
            normal(self.key_channels, self.queries, dtype=self.dtype),
            normal(self.key_channels, tokens, dtype=self.dtype),
            normal(self.objects, self.value_channels, tokens, dtype=self.value_dtype or self.dtype),
        )

    def vectors(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor] | tuple[None, None, None]:
        """Return gain (1, M), offset (1, N) and bias (1, M) of an affine read, or three Nones."""
        if not self.affine:
            return None, None, None
        random = torch.Generator(device).manual_seed(1)
        tokens = self.queries * self.frames
        gain, bias = (torch.rand(1, tokens, generator=random, device=device) for _ in range(2))
        bias[:, ::5] = -math.inf
        return gain + 0.5, torch.randn(1, self.queries, generator=random, device=device), bias

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        if self.value_dtype:
            dtype += f" keys, {str(self.value_dtype).removeprefix('torch.')} values"
        objects = f" x {self.objects} objects" if self.objects > 1 else ""
        more = f"{', affine' if self.affine else ''}{', channels last' if self.channels_last else ''}"
        more += ", packed" if self.packed else ""
        more += f", best {self.top_k}" if self.operation.startswith("top_k") and self.top_k != TOP_K else ""
        channels = f"({self.key_channels}, {self.value_channels}){objects}"
        return f"{self.operation}, {dtype}, {channels}, T = {self.frames}{more}"


FRAMES = (1, 5, 20, 100)
DTYPES = (torch.float32, torch.bfloat16)
REGISTRY: dict[str, tuple[Case, ...]] = {
    "STM": tuple(Case("read", dtype, 128, 512, 1, frames) for frames in FRAMES for dtype in DTYPES),
    "four objects": tuple(Case("read", dtype, 64, 512, 4, 5) for dtype in DTYPES),
    "Cutie": tuple(Case("read", dtype, 64, 256, 1, 5) for dtype in DTYPES),
    "top-k": (Case("top_k", torch.float32, 64, 512, 1, 20),),
    "backward": tuple(Case("backward", dtype, 128, 512, 1, 5) for dtype in DTYPES),
    "usage": tuple(Case("usage", dtype, 128, 512, 1, 20) for dtype in DTYPES),
}
"""Reads on a CPU, by what they represent; `benchmarks.read.gpu.cases` has those on a GPU."""
ALL = tuple(case for cases in REGISTRY.values() for case in cases)


def beginning(text: str) -> tuple[Case, ...]:
    """Return the cases whose name begins with a text, such as "read, float32".

    Raises:
        ValueError: there is none.
    """
    found = tuple(case for case in ALL if str(case).startswith(text))
    if not found:
        raise ValueError(f"no case begins with {text!r}; the first one is {str(ALL[0])!r}")
    return found
