"""How clips are drawn for training, and what they are drawn from."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stm_fast.training.batch import Example


@dataclass(frozen=True)
class Sampling:
    """The clips of one step.

    Attributes:
        clips: clips per step, over all processes and micro-batches.
        frames: frames per clip.
        size: side of a frame in pixels, a multiple of 16.
        max_objects: objects kept per clip; the others become background.
        max_skip: frames that may be left out between two frames of a clip, in sources with a time.
        smallest_crop: side of the smallest crop as a fraction of the shorter side of the frame, where the source's
            augmentation does not set it.
    """

    clips: int
    frames: int
    size: int
    max_objects: int = 3
    max_skip: int = 0
    smallest_crop: float = 0.6


class ClipSource(Protocol):
    """A set of pictures or videos from which training clips are drawn."""

    def __len__(self) -> int:
        """Return the number of pictures or videos: an epoch draws each of them once on average."""

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        """Draw a clip from picture or video `index`; the same arguments give the same clip.

        Returns:
            A clip whose first frame shows at least one object; None if the draw has none, and the caller draws again.

        Raises:
            MediaError: a file cannot be read.
        """
