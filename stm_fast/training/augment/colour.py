"""Random colours. Brightness, contrast, saturation and hue make one linear map of RGB, which is applied once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stm_fast.training.augment.affine import Picture
from stm_fast.training.augment.opencv import opencv

_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Tone:
    """A change of colours; the default changes nothing.

    Attributes:
        brightness: factor of all colours.
        contrast: factor of the distance from the frame's mean grey.
        saturation: factor of the distance from the pixel's own grey; 0 makes a grey frame.
        hue: angle in turns by which colours rotate about the grey axis.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0


@dataclass(frozen=True)
class Jitter:
    """Ranges of a random tone: each factor is within one plus or minus its range, the hue within plus or minus its own.

    It differs from torchvision's `ColorJitter` in that the order of the four changes is fixed, that values are clipped
    once, at the end, and that hue rotates colours instead of going through HSV.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def draw(self, rng: np.random.Generator) -> Tone:
        """Draw a tone."""
        ranges = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        brightness, contrast, saturation, hue = ranges * rng.uniform(-1, 1, 4) + (1, 1, 1, 0)
        return Tone(max(brightness, 0.0), max(contrast, 0.0), max(saturation, 0.0), hue)


def recolour(frame: Picture, tones: Sequence[Tone]) -> Picture:
    """Change the colours of an RGB frame `(H, W, 3)` by several tones, one after another."""
    if all(tone == Tone() for tone in tones):
        return frame
    cv2 = opencv()
    linear, offset = np.eye(3), np.zeros(3)
    mean = np.array(cv2.mean(frame)[:3])
    for tone in tones:
        linear, offset = tone.brightness * linear, tone.brightness * offset
        grey = _LUMA @ (linear @ mean + offset)
        mix = _rotation(tone.hue) @ (tone.saturation * np.eye(3) + (1 - tone.saturation) * np.outer(np.ones(3), _LUMA))
        linear = mix @ (tone.contrast * linear)
        offset = mix @ (tone.contrast * offset + (1 - tone.contrast) * grey)
    changed: Picture = cv2.transform(frame, np.column_stack([linear, offset]))
    return changed


def _rotation(turns: float) -> NDArray[np.float64]:
    """Return the rotation of RGB about the grey axis."""
    angle = 2 * np.pi * turns
    axis = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    rotation: NDArray[np.float64] = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * axis
    return rotation
