"""A segmenter that can take frames whose masks are known already."""

from stm_fast.inference.frames import Image
from stm_fast.inference.objects import Mask, to_ids
from stm_fast.inference.segmenter import Segmenter, one_at_a_time


class ResumableSegmenter(Segmenter):
    """A `Segmenter` that resumes where an earlier run over the same frames stopped, by recalling the masks it made."""

    @one_at_a_time
    def recall(self, frame: Image, mask: Mask) -> None:
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
        state = self._next(last, frame)
        ids = to_ids(mask, last.geometry.outer, self._device)
        if last.chosen or self.memory.policy.keeps(last.index, annotated=bool(last.annotated)):
            self._memorise(last)
        if last.objects:
            state.place(ids, last.objects)
        self._state = state
