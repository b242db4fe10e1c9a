"""Test-time augmentation: the same clip at several sizes and mirrored, with averaged probabilities."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from stm_fast.errors import ArgumentError
from stm_fast.inference.frames import Image
from stm_fast.inference.objects import Mask, to_mask
from stm_fast.inference.segmentation import Segmentation
from stm_fast.inference.segmenter import Segmenter
from stm_fast.memory.bank import MemoryBank
from stm_fast.models.aggregation import PROBABILITY_FLOOR
from stm_fast.models.stm import STM
from stm_fast.tracking.options import TrackOptions

P = TypeVar("P")


@dataclass(frozen=True)
class Views:
    """Views of a clip that are segmented side by side.

    Attributes:
        sizes: shorter sides, in pixels, that the network works at, also above that of the frames; none for the size of
            the tracking options alone.
        flip: whether each size is also segmented mirrored, left and right exchanged.
    """

    sizes: tuple[int, ...] = ()
    flip: bool = False

    def check(self, network: STM) -> None:
        """Raise `ArgumentError` if a size is below the stride of a model."""
        if small := [size for size in self.sizes if size < network.stride]:
            raise ArgumentError("sizes", f"must be at least {network.stride} pixels, got {small[0]}")

    def segmenter(
        self, options: TrackOptions, network: STM, frame_size: tuple[int, int]
    ) -> "Segmenter | MultiViewSegmenter":
        """Make what segments a clip.

        Args:
            options: of tracking; with `sizes`, their size is not used.
            network: the model.
            frame_size: height and width of the frames.

        Raises:
            ArgumentError: a size is below the model's stride, or an option is out of range.
        """
        self.check(network)
        if not self.sizes and not self.flip:
            return options.segmenter(network, frame_size)
        views = []
        for size in self.sizes or (None,):
            for mirrored in (False, True) if self.flip else (False,):
                segmenter = options.segmenter(network, frame_size)
                if size is not None:
                    segmenter.size = size  # unlike an option of tracking, it may enlarge frames
                views.append(View(segmenter, mirrored=mirrored))
        return MultiViewSegmenter(views)


@dataclass(frozen=True)
class View:
    """A segmenter, and whether it sees frames mirrored."""

    segmenter: Segmenter
    mirrored: bool = False

    def turned(self, picture: P) -> P:
        """Return a picture as this view sees it: an array `(H, W, 3)` or `(H, W)`, or a tensor `(..., H, W)`."""
        if not self.mirrored:
            return picture
        flipped: Any = picture.flip(-1) if isinstance(picture, Tensor) else np.flip(cast(Any, picture), 1)
        return cast(P, flipped)


class MultiViewSegmenter:
    """Segmenters in lockstep, one a view, each with its own memory.

    Each remembers its own probabilities. The result of a frame is the mean of all, at the frame's size and turned back,
    and its mask is taken from this mean.

    Args:
        views: at least one.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self.views = tuple(views)

    @property
    def model(self) -> STM:
        """The network of the first view; the others have the same weights."""
        return self.views[0].segmenter.model

    @property
    def memory(self) -> MemoryBank:
        """The memory of the first view."""
        return self.views[0].segmenter.memory

    @property
    def started(self) -> bool:
        """Whether there is a video."""
        return self.views[0].segmenter.started

    @property
    def objects(self) -> tuple[int, ...]:
        """Ids of the objects followed now."""
        return self.views[0].segmenter.objects

    def clear(self) -> None:
        """Forget the video."""
        for view in self.views:
            view.segmenter.clear()

    def start(self, frame: Image, mask: "Mask | None" = None) -> Segmentation:
        """Begin a video; see `Segmenter.start`."""
        return self._mean(
            lambda view: view.segmenter.start(view.turned(frame), None if mask is None else view.turned(mask))
        )

    def step(self, frame: Image) -> Segmentation:
        """Segment the next frame; see `Segmenter.step`."""
        return self._mean(lambda view: view.segmenter.step(view.turned(frame)))

    def recall(self, frame: Image, mask: Mask) -> None:
        """Take the next frame with a known mask; see `Segmenter.recall`."""
        for view in self.views:
            view.segmenter.recall(view.turned(frame), view.turned(mask))

    def annotate(self, mask: Mask, objects: Collection[int] | None = None) -> Segmentation:
        """Say where objects are in the current frame; see `Segmenter.annotate`."""
        return self._mean(lambda view: view.segmenter.annotate(view.turned(mask), objects))

    def _mean(self, segment: Callable[[View], Segmentation]) -> Segmentation:
        """Segment in every view and average; views are added in order, so that the same ones give the same bits."""
        found = [(view, segment(view)) for view in self.views]
        first = found[0][1]
        total = torch.zeros_like(first.probabilities)
        for view, result in found:
            total += result.probabilities.flip(-1) if view.mirrored else result.probabilities
        probabilities = total / len(found)
        return Segmentation(
            first.index,
            first.objects,
            probabilities.clamp(min=PROBABILITY_FLOOR).log(),
            probabilities,
            to_mask(probabilities.max(0).indices, first.objects),
            torch.stack([result.uncertainty for _, result in found]).nanmean(0),
        )
