"""A segmenter that can take frames whose masks are known already."""

import torch

from stm_fast.inference.frames import Frame, to_rgb
from stm_fast.inference.objects import Mask, one_hot, to_ids
from stm_fast.inference.segmenter import Segmenter


class ResumableSegmenter(Segmenter):
    """A `Segmenter` that goes on where an earlier run over the same frames stopped, by recalling the masks it made."""

    @torch.inference_mode()
    def recall(self, frame: Frame, mask: Mask) -> None:
        """Takes the next frame with the mask that `step` gave it before.

        Nothing is read from memory, and only frames that the policy keeps are encoded for it, so this costs a fraction
        of a step. The memory differs from that of one run in that these frames are remembered with hard masks.

        Args:
            frame: of the first frame's size.
            mask: ids; those that are not of objects followed now count as background.

        Raises:
            TypeError: the frame or the mask is of another type or dtype than `step` and `annotate` take.
            ValueError: it has another shape, size or range.
            RuntimeError: `start` was not called.
        """
        last = self._started()
        geometry = last.geometry
        rgb = to_rgb(frame, self._device)
        if (size := (rgb.shape[2], rgb.shape[3])) != geometry.outer:
            raise ValueError(f"frame must have the first frame's size {geometry.outer}, got {size}")
        ids = to_ids(mask, geometry.outer, self._device)
        if self.policy.keeps(self.frame_index, annotated=last.annotated):
            self._memorise(last)
        self._state = state = type(last).without_objects(geometry, self._for_network(rgb, geometry))
        self.frame_index += 1
        if self.objects:
            state.add(len(self.objects))
            state.correct(range(1, len(self.objects) + 1), one_hot(ids, self.objects))
