"""Clips made of still pictures, for the first stage of training."""

import numpy as np

from stm_fast.data.stills.still import Stills
from stm_fast.training.augment.affine import Picture, shrink
from stm_fast.training.augment.presets import Preset
from stm_fast.training.batch import Example
from stm_fast.training.sampling import Sampling
from stm_fast.training.sources.objects import choose_objects, large_objects, object_ids, renumber
from stm_fast.training.sources.pasting import cut_out

_PASTED_SIDES = (0.25, 0.6)
"""Range of a pasted object's longer side, as a fraction of the frame's."""


class StillSource:
    """Clips whose frames are one picture under random affine maps (STM paper, section 3.5).

    Each frame has its own map. If the preset pastes, objects of other pictures lie over the picture and over one
    another, each with its own motion, so that objects hide one another. Void stays void where nothing is pasted on it.
    Objects of the picture beyond `max_objects` are background, though they are seen.

    Args:
        stills: pictures with masks, for instance a `StillSet`.
        preset: how frames are made.
    """

    def __init__(self, stills: Stills, preset: Preset) -> None:
        self.stills = stills
        self.preset = preset

    def __len__(self) -> int:
        return len(self.stills)

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        """Draw a clip from picture `index`; see `ClipSource`."""
        frame, mask = shrink(*self.stills[index].read(), 2 * sampling.size)
        ids = object_ids(mask)
        if not len(ids):
            return None
        pasted = int(rng.integers(min(sampling.max_objects, len(self.stills)))) if self.preset.pasted else 0
        augmentation = self.preset.stills
        seen = [view.of(frame, mask) for view in augmentation.views(rng, mask, ids, sampling)]
        own = rng.permutation(large_objects(seen[0][1]))[: sampling.max_objects - pasted]
        frames, masks = [frame for frame, _ in seen], [renumber(mask, own) for _, mask in seen]
        others = rng.choice(len(self.stills) - 1, pasted, replace=False)
        for number, other in enumerate(others + (others >= index), len(own) + 1):
            self._paste(int(other), frames, masks, number, rng)
        return choose_objects(augmentation.recolour(rng, frames), masks, sampling.max_objects, rng)

    def _paste(
        self, index: int, frames: list[Picture], masks: list[Picture], number: int, rng: np.random.Generator
    ) -> None:
        """Paste an object of picture `index` over all frames, in place, under the id `number`."""
        picture, objects = self.stills[index].read()
        ids = object_ids(objects)
        if not len(ids):
            return
        size = len(masks[0])
        cut = cut_out(picture, objects, int(rng.choice(ids)), size * rng.uniform(*_PASTED_SIDES))
        maps = cut.place(rng, self.preset.pasted_motion, len(frames), size)
        for frame, mask, matrix in zip(frames, masks, maps, strict=True):
            cut.paste(frame, mask, matrix, number)
