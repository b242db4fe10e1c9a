"""Appearance: how light, lens and codec change a frame."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.motion import smooth_walk

Rng = np.random.Generator
Floats = NDArray[np.float32]


class Light:
    """Changes brightness, contrast and colour slowly over a clip."""

    def __init__(self, frames: int, amount: float, rng: Rng) -> None:
        self.gain = np.exp(
            smooth_walk(frames, rng.normal(0, 0.1), 0.06 * amount, rng)[:, None]
            + np.stack([smooth_walk(frames, rng.normal(0, 0.04), 0.02 * amount, rng) for _ in range(3)], 1)
        ).astype(np.float32)
        self.gamma = np.exp(smooth_walk(frames, rng.normal(0, 0.15), 0.05 * amount, rng))
        self.gamma = np.clip(self.gamma, 0.6, 1.7)

    def apply(self, frame: int, colour: Floats) -> Floats:
        """Return colours `(H, W, 3)` in [0, 1] as they look in this light."""
        return np.asarray(np.power(np.clip(colour * self.gain[frame], 0, 1), self.gamma[frame]), np.float32)


def shading(size: int, rng: Rng) -> Floats:
    """Return a smooth pattern `(size, size, 1)` around 1. Colours multiplied by it look unevenly lit."""
    coarse = rng.normal(0, 0.18, (3, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.exp(smooth)[..., None], np.float32)


def motion_blur(layer: Floats, dx: float, dy: float) -> Floats:
    """Blur a premultiplied layer along (dx, dy) pixels."""
    length = int(min(np.hypot(dx, dy), 25))
    if length < 3:
        return layer
    kernel = np.zeros((length, length), np.float32)
    centre, angle = (length - 1) / 2, np.arctan2(dy, dx)
    reach = centre * np.array([np.cos(angle), np.sin(angle)])
    start, end = (tuple(np.round(centre + sign * reach).astype(int).tolist()) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(cv2.filter2D(layer, -1, kernel / kernel.sum()))


class Camera:
    """Lens and codec of one clip: defocus, low resolution, noise and JPEG compression."""

    def __init__(self, rng: Rng) -> None:
        self.defocus = rng.uniform(0.5, 1.6) if rng.random() < 0.25 else 0.0
        self.shrink = rng.uniform(0.4, 0.8) if rng.random() < 0.15 else 1.0
        self.noise = rng.uniform(1, 9) if rng.random() < 0.35 else 0.0
        self.quality = int(rng.integers(25, 90)) if rng.random() < 0.6 else 0
        self.grey = rng.random() < 0.04

    def capture(self, colour: Floats, rng: Rng) -> NDArray[np.uint8]:
        """Return a frame `(H, W, 3)` uint8 from colours in [0, 1]."""
        height, width = colour.shape[:2]
        if self.defocus:
            colour = cv2.GaussianBlur(colour, (0, 0), self.defocus)
        if self.shrink < 1:
            small = (round(width * self.shrink), round(height * self.shrink))
            colour = cv2.resize(cv2.resize(colour, small, interpolation=cv2.INTER_AREA), (width, height))
        if self.grey:
            colour = np.repeat(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
        values = 255 * colour
        if self.noise:
            values = values + self.noise * rng.standard_normal(colour.shape, np.float32)
        frame = np.clip(values + 0.5, 0, 255).astype(np.uint8)
        if self.quality:
            _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            frame = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        return np.asarray(frame, np.uint8)
