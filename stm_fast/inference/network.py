"""The network on one frame and all objects in it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from stm_fast.inference.frame_state import FrameState
from stm_fast.inference.frames import Geometry, Image, to_rgb
from stm_fast.inference.objects import without_holes
from stm_fast.models.aggregation import aggregate, other_masks
from stm_fast.models.inference_copy import inference_copy
from stm_fast.models.stm import STM, Guide, QueryFeatures

_PIXELS_AT_ONCE = 8 * 480 * 864


class FrameNetwork:
    """An inference copy of a model that takes a frame with all its objects, a few objects at a time.

    Args:
        model: the model, which stays as it is.

    Attributes:
        model: the copy.
        device: of its weights.
    """

    def __init__(self, model: STM) -> None:
        self.model = inference_copy(model)
        weight = next(self.model.parameters())
        self.device, self._dtype = weight.device, weight.dtype

    def rgb(self, image: Image) -> Tensor:
        """Return an image on the device, see `to_rgb`."""
        return to_rgb(image, self.device)

    def geometry(self, outer: tuple[int, int], size: int | Literal["auto"] | None) -> Geometry:
        """Return the sizes at which frames of the size `outer` are segmented; `size` is that of `Segmenter`."""
        stride = self.model.stride
        if size == "auto":
            best = self.model.card.best_size(min(outer))
            size = None if best == min(outer) or best < stride else best
        return Geometry.of(outer, size, stride)

    def frame(self, index: int, rgb: Tensor, geometry: Geometry) -> FrameState:
        """Return a frame without objects, from `(1, 3, *outer)`."""
        padded = geometry.pad(geometry.to_inner(rgb))
        return FrameState.without_objects(index, geometry, padded.to(self._dtype, memory_format=torch.channels_last))

    def encode_query(self, frame: FrameState) -> QueryFeatures:
        """Return what a frame asks the memory, and what the decoder needs of it.

        The frame keeps what of it is needed to memorise it.
        """
        query = self.model.encode_query(frame.frame)
        if self.model.shares_keys or self.model.guided:
            frame.query = query._replace(skips=())
        return query

    def decode(self, frame: FrameState, query: QueryFeatures, readout: Tensor, last: FrameState) -> Tensor:
        """Return logits of background and objects `(O + 1, *inner)`, float32.

        Args:
            frame: the frame.
            query: its features.
            readout: `(O, Cv, h, w)`.
            last: the frame before, with the same objects.
        """
        # As in training, nothing guides the decoder if all masks of the frame before were given. Frames before the
        # first are of another video.
        found = self.model.guided and last.index >= 0 and not last.placed.issuperset(last.objects)
        guide = Guide(*self._masks(frame, last.inner[1:, None]), self._query(last).value) if found else None
        parts = []
        for rows in _groups(frame, len(readout)):
            given = guide and guide._replace(masks=guide.masks[rows], others=guide.others[rows])
            parts.append(frame.geometry.unpad(self.model.decode(readout[rows], query, given)))
        return aggregate(_joined(parts))

    def encode_memory(self, frame: FrameState) -> tuple[Tensor, Tensor, Tensor]:
        """Encode a frame and its masks (STM paper, section 3.1).

        Returns:
            Keys `(O, Ck, h, w)`, or `(1, Ck, h, w)` if the network shares them; values `(O, Cv, h, w)`; and the share
            of each location that each object covers, float32 `(O, h, w)`.
        """
        masks, others = self._masks(frame, self._remembered(frame))
        query = (self._query(frame),) if self.model.shares_keys else ()
        keys, values = zip(
            *(
                self.model.encode_memory(frame.frame, masks[rows], others[rows], *query)
                for rows in _groups(frame, len(frame.objects))
            ),
            strict=True,
        )
        key = query[0].key if query else _joined(keys)
        value = _joined(values)
        presence = F.adaptive_avg_pool2d(masks.float(), (value.shape[2], value.shape[3]))[:, 0]
        return key, value, presence

    def _query(self, frame: FrameState) -> QueryFeatures:
        return frame.query or self.encode_query(frame)

    def _masks(self, frame: FrameState, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return masks of objects `(O, 1, *inner)`, and of the others of each, as the network takes them."""
        own, others = (frame.geometry.pad(planes).to(self._dtype) for planes in (masks, other_masks(masks)))
        return own, others

    def _remembered(self, frame: FrameState) -> Tensor:
        """Return masks `(O, 1, *inner)` of the objects as they go into memory."""
        masks = frame.inner[1:, None]
        given = [row for row, object_id in enumerate(frame.objects) if object_id in frame.annotated]
        if not given or not self.model.card.hole_size:
            return masks
        filled = masks.clone()
        filled[given] = without_holes(masks[given], other_masks(masks)[given], self.model.card.hole_size)
        return filled


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _groups(frame: FrameState, objects: int) -> list[slice]:
    """Return slices of the objects, small enough for activations to stay bounded whatever the number of objects."""
    height, width = frame.frame.shape[2:]
    at_once = max(1, _PIXELS_AT_ONCE // (height * width))
    return [slice(first, first + at_once) for first in range(0, objects, at_once)]
