"""The memory of a clip in training: it grows by a frame at a time, inside one graph of autograd.

`torch.stack` of all frames so far, before every read, copies frame t once for each later frame, and autograd keeps
every copy until the backward pass: memory that grows with the square of the clip's length. Here a frame is copied once,
into a buffer with room for the whole clip, and the t-th read sees the first t frames of that buffer.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stm_fast.ops.autocast import autocast


class ClipMemory:
    """Keys and values of a clip's frames, which `append` adds to.

    Inside an autocast region frames are cast once, to the dtype in which a read casts them.

    Args:
        frames: number of frames that there is room for.
    """

    def __init__(self, frames: int) -> None:
        self._keys, self._values = GrowingStack(frames), GrowingStack(frames)

    def append(self, key: Tensor, value: Tensor) -> None:
        """Add a frame's keys `(N, Ck, h, w)` and values `(N, Cv, h, w)`, as `GrowingStack.append` does."""
        self._keys.append(autocast(key))
        self._values.append(autocast(value))

    @property
    def keys(self) -> Tensor:
        """Keys of the t frames so far, `(N, Ck, t, h, w)`."""
        return self._keys.frames

    @property
    def values(self) -> Tensor:
        """Values of the t frames so far, `(N, Cv, t, h, w)`."""
        return self._values.frames


class GrowingStack:
    """`torch.stack(frames, 2)` of frames that come one by one, each copied once.

    Gradients reach every frame that requires them, from all stacks that it is part of. There are first derivatives
    only.

    Args:
        max_frames: number of frames that there is room for.
    """

    def __init__(self, max_frames: int) -> None:
        self.max_frames = max_frames
        self._buffer: Tensor | None = None
        self._frames: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self._frames is None else self._frames.shape[2]

    @property
    def frames(self) -> Tensor:
        """The stack of the t frames so far, `(N, C, t, h, w)`: a view that must not be written to.

        Raises:
            ValueError: there is no frame yet.
        """
        if self._frames is None:
            raise ValueError("the memory is empty: append a frame first")
        return self._frames

    def append(self, frame: Tensor) -> None:
        """Add a frame `(N, C, h, w)`, of any strides.

        Raises:
            ValueError: there is no room left, or shape, dtype or device differ from those of the first frame.
        """
        if len(self) == self.max_frames:
            raise ValueError(f"the memory has room for {self.max_frames} frames, and holds as many")
        if self._buffer is None:
            batch, channels, *grid = frame.shape
            self._buffer = frame.new_empty(batch, channels, self.max_frames, *grid)
        first = self._buffer[:, :, 0]
        if (frame.shape, frame.dtype, frame.device) != (first.shape, first.dtype, first.device):
            raise ValueError(
                f"frame is {tuple(frame.shape)}, {frame.dtype}, on {frame.device}; "
                f"the first frame was {tuple(first.shape)}, {first.dtype}, on {first.device}"
            )
        self._frames = _Append.apply(self._buffer, self._frames, frame)  # type: ignore[no-untyped-call]


class _Append(torch.autograd.Function):
    """The stack of t frames and frame t -> the stack of t + 1 frames, in the same buffer.

    Autograd refuses a backward pass if a tensor that it saved was written to since, and it counts writes for a whole
    storage: it would take every new frame for a change of all stacks that earlier reads saved. No saved stack changes:
    a frame is written once, behind the end of every stack that exists. So the frame is written through `.data`, and the
    result begins at `.data`: both have counters of their own.

    The gradient of the shorter stack is a view of that of the longer one. Autograd adds the shorter stack's own reads
    to it before it passes it on, so at any time one such sum is alive, not one for every read.
    """

    @staticmethod
    def forward(ctx: Any, buffer: Tensor, stack: Tensor | None, frame: Tensor) -> Tensor:
        time = 0 if stack is None else stack.shape[2]
        elements = buffer.data
        elements[:, :, time] = frame
        return elements[:, :, : time + 1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        _, stack, frame = ctx.needs_input_grad
        return None, gradient[:, :, :-1] if stack else None, gradient[:, :, -1] if frame else None
