"""Augmentation of a clip: what is drawn once for all its frames, and what is drawn for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stm_fast.training.augment.affine import Colour, Matrix, Motion, Picture, centre, flip
from stm_fast.training.augment.bends import Bend
from stm_fast.training.augment.colour import Jitter, recolour
from stm_fast.training.augment.crops import Crop, SquareCrop
from stm_fast.training.augment.views import View
from stm_fast.training.sampling import Sampling


@dataclass(frozen=True)
class Augmentation:
    """How pictures become frames of a clip; the default takes one random square for all of them.

    Attributes:
        clip_motion: affine map of the whole picture about its centre, the same for all frames.
        crop: the part of the picture that is shown.
        crop_each: draw a crop for each frame instead of one for all frames.
        flip: probability that all frames are flipped left to right.
        frame_motion: affine map of each frame about its centre, after the crop. Where it reaches beyond the crop, the
            picture goes on.
        frame_bend: bend of each frame, after that.
        clip_colours: change of colours, the same for all frames.
        frame_colours: change of the colours of each frame.
        grey: probability that all frames are grey.
        fill: see `View`.
    """

    clip_motion: Motion = field(default_factory=Motion)
    crop: Crop = field(default_factory=SquareCrop)
    crop_each: bool = False
    flip: float = 0.0
    frame_motion: Motion = field(default_factory=Motion)
    frame_bend: Bend = field(default_factory=Bend)
    clip_colours: Jitter = field(default_factory=Jitter)
    frame_colours: Jitter = field(default_factory=Jitter)
    grey: float = 0.0
    fill: Colour | None = None

    def views(
        self, rng: np.random.Generator, mask: Picture, ids: NDArray[np.integer], sampling: Sampling
    ) -> list[View]:
        """Draw what each frame shows of the picture.

        Args:
            rng: source of randomness.
            mask: ids `(H, W)` of the picture, or of a video's first frame.
            ids: objects that crops are placed by, at least one, all in the mask.
            sampling: number and size of the frames.
        """
        moved = self.clip_motion.draw(rng, centre(mask.shape), min(mask.shape))
        if rng.random() < self.flip:
            moved = flip(mask.shape[1]) @ moved
        middle = ((sampling.size - 1) / 2,) * 2
        views: list[View] = []
        shown = moved
        for number in range(sampling.frames):
            if number == 0 or self.crop_each:
                shown = self._crop(rng, mask, ids, moved, sampling)
            matrix = self.frame_motion.draw(rng, middle, sampling.size) @ shown
            views.append(View(matrix, sampling.size, self.frame_bend.draw(rng, sampling.size), self.fill))
        return views

    def _crop(
        self, rng: np.random.Generator, mask: Picture, ids: NDArray[np.integer], moved: Matrix, sampling: Sampling
    ) -> Matrix:
        """Draw a crop of the moved picture, placed by a random pixel of a random object."""
        height, width = mask.shape
        pixels = np.flatnonzero(mask == rng.choice(ids))
        row, column = divmod(int(pixels[rng.integers(len(pixels))]), width)
        x, y, _ = moved @ (column, row, 1)
        point = (float(np.clip(x, 0, width - 1)), float(np.clip(y, 0, height - 1)))
        return self.crop.draw(rng, (height, width), point, sampling) @ moved

    def recolour(self, rng: np.random.Generator, frames: Sequence[Picture]) -> list[Picture]:
        """Change the colours of a clip's frames."""
        whole = self.clip_colours.draw(rng)
        if rng.random() < self.grey:
            whole = replace(whole, saturation=0.0)
        return [recolour(frame, (whole, self.frame_colours.draw(rng))) for frame in frames]
