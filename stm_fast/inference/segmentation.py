"""The result of a frame."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Segmentation:
    """Where the objects of one frame are. Tensors have the input's size and live on the model's device.

    They are inference tensors, which the segmenter still reads: clone one before changing it.

    Attributes:
        index: number of the frame, from 0.
        objects: ids of the O objects, in the order of the rows below.
        logits: background first, then the objects `(O + 1, H, W)`, float32; `probabilities` is their softmax.
        probabilities: `(O + 1, H, W)`, float32, summing to one.
        mask: the most probable id of each pixel, 0 for the background `(H, W)`; uint8, or int32 with ids above 255.
        uncertainty: of each object `(O,)`, float32, see `stm_fast.memory.policies.uncertainty`; NaN for an object
            whose mask was given, and for one that is nowhere.
    """

    index: int
    objects: tuple[int, ...]
    logits: Tensor
    probabilities: Tensor
    mask: Tensor
    uncertainty: Tensor
