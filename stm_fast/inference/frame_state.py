"""A frame and where the objects are in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stm_fast.inference.frames import Geometry
from stm_fast.inference.objects import corrected, one_hot
from stm_fast.memory.policies import uncertainty
from stm_fast.models.stm import QueryFeatures


@dataclass
class FrameState:
    """A frame and where the objects are in it.

    Attributes:
        index: its number.
        geometry: its sizes.
        frame: as the network sees it, padded, `(1, 3, H, W)`.
        inner: probabilities of background and objects at the inner size, which are memorised.
        outer: the same at the outer size; the same tensor where both sizes are equal.
        objects: ids of the objects.
        annotated: those whose masks were given in this frame.
        placed: those whose masks in this frame do not come from the network, annotated or not.
        chosen: whether the frame is remembered as annotated ones are.
        query: features of the frame without skips, if they were computed and are needed once more to memorise it.
    """

    index: int
    geometry: Geometry
    frame: Tensor
    inner: Tensor
    outer: Tensor
    objects: tuple[int, ...] = ()
    annotated: frozenset[int] = frozenset()
    placed: frozenset[int] = frozenset()
    chosen: bool = False
    query: QueryFeatures | None = None
    _measured: Tensor | None = None

    def uncertainty(self) -> Tensor:
        """Return how unsure the network was of each object `(O,)`; NaN for those that were placed or are nowhere."""
        if self._measured is None:
            placed = torch.tensor([object_id in self.placed for object_id in self.objects], dtype=torch.bool)
            unsure = uncertainty(self.inner[1:])
            self._measured = unsure.masked_fill(placed.to(unsure.device), torch.nan)
        return self._measured

    @classmethod
    def without_objects(cls, index: int, geometry: Geometry, frame: Tensor) -> "FrameState":
        """Return a frame that is all background."""
        outer = torch.ones(1, *geometry.outer, device=frame.device)
        inner = outer if geometry.inner == geometry.outer else torch.ones(1, *geometry.inner, device=frame.device)
        return cls(index, geometry, frame, inner, outer)

    def follow(self, objects: tuple[int, ...], logits: Tensor) -> Tensor:
        """Take objects where the network found them.

        Args:
            objects: their ids.
            logits: of background and objects `(O + 1, *inner)`.

        Returns:
            Logits `(O + 1, *outer)`.
        """
        enlarged = self.geometry.to_outer(logits[None])[0]
        self.objects = objects
        self.outer = torch.softmax(enlarged, dim=0)
        same = self.geometry.inner == self.geometry.outer
        self.inner = self.outer if same else torch.softmax(logits, dim=0)
        return enlarged

    def annotate(self, mask: Tensor, objects: Sequence[int]) -> None:
        """Put objects where the user says they are."""
        self.place(mask, objects)
        self.annotated |= set(objects)

    def place(self, mask: Tensor, objects: Sequence[int]) -> None:
        """Put objects where a mask of ids at the outer size has them; new ones join."""
        joining = tuple(object_id for object_id in objects if object_id not in self.objects)
        self._edit(lambda planes: torch.cat([planes, planes.new_zeros(len(joining), *planes.shape[1:])]))
        self.objects += joining
        self.placed |= set(objects)
        self._correct([self.objects.index(object_id) + 1 for object_id in objects], one_hot(mask, objects))

    def remove(self, object_id: int) -> None:
        """Remove an object; the others get its probability."""
        row = self.objects.index(object_id) + 1
        self._correct([row], torch.zeros(1, *self.geometry.outer, device=self.frame.device))
        self._edit(lambda planes: torch.cat([planes[:row], planes[row + 1 :]]))
        self.objects = self.objects[: row - 1] + self.objects[row:]
        self.annotated -= {object_id}
        self.placed -= {object_id}

    def _correct(self, rows: Sequence[int], masks: Tensor) -> None:
        shrunk = self.geometry.to_inner(masks[None])[0]
        self._edit(lambda planes: corrected(planes, rows, masks if planes is self.outer else shrunk))

    def _edit(self, change: Callable[[Tensor], Tensor]) -> None:
        self._measured = None
        same = self.inner is self.outer
        inner = change(self.inner)
        self.inner, self.outer = inner, inner if same else change(self.outer)
