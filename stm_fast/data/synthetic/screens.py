"""Screens, which hide parts of objects: posts and fences in the scene, spray and dust."""

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.assets import Picture

Rng = np.random.Generator
Floats = NDArray[np.float32]


class Screen(Protocol):
    """A screen in front of all layers."""

    def draw(self, frame: int, colour: Floats) -> Floats:
        """Draw it over `colour` `(S, S, 3)` in place; return its coverage of each pixel `(S, S)`."""
        ...


class Posts:
    """One to six poles or rails in the scene, in one colour or with a photograph's texture.

    Args:
        view: maps `(T, 2, 3)` of the camera from pixels of the first frame to those of each frame.
        meets: the point `(x, y)` that the first post covers in frame `time`.
        texture: `(h, w, 3)` uint8.
    """

    def __init__(self, view: Floats, meets: Floats, time: int, size: int, texture: Picture, rng: Rng) -> None:
        self.margin = size // 2
        side = size + 2 * self.margin
        inverse = cv2.invertAffineTransform(view[time])
        centre = inverse[:, :2] @ meets + inverse[:, 2] + self.margin
        cover = np.zeros((side, side), np.uint8)
        width = float(np.exp(rng.uniform(np.log(0.008), np.log(0.08)))) * size
        angle = float(rng.choice([0.5 * np.pi, 0.0], p=[0.75, 0.25]) + 0.08 * rng.normal())
        for number in range(int(rng.integers(1, 7))):
            if number and rng.random() < 0.3:
                angle += 0.5 * np.pi
            self._pole(cover, centre, angle, width * float(rng.uniform(0.6, 1.4)), size, rng)
            across = np.array([-np.sin(angle), np.cos(angle)])
            centre = centre + across * rng.normal(0, 0.15) * size
        paint = np.empty((side, side, 3), np.float32)
        paint[:] = np.clip(rng.uniform(0, 1) + rng.normal(0, 0.15, 3), 0, 1)
        if rng.random() < 0.4:
            paint = cv2.resize(texture, (side, side), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
        alpha = cover.astype(np.float32)[..., None] / 255
        self.picture = np.dstack([paint * alpha, alpha])
        shift = np.array([[1, 0, -self.margin], [0, 1, -self.margin]], np.float32)
        self.view = view.copy()
        self.view[:, :, 2] += view[:, :, :2] @ shift[:, 2]

    @staticmethod
    def _pole(cover: NDArray[np.uint8], centre: Floats, angle: float, width: float, size: int, rng: Rng) -> None:
        along = np.array([np.cos(angle), np.sin(angle)])
        ends = [centre + sign * along * rng.uniform(0.2, 1.2) * size for sign in (-1, 1)]
        start, end = (tuple(np.round(point * 16).astype(int).tolist()) for point in ends)
        cv2.line(cover, start, end, 255, max(1, round(width)), cv2.LINE_AA, 4)

    def draw(self, frame: int, colour: Floats) -> Floats:
        """Draw the posts as the camera sees them in this frame."""
        size = colour.shape[1::-1]
        seen = cv2.warpAffine(self.picture, self.view[frame], size, flags=cv2.INTER_LINEAR)
        colour *= 1 - seen[..., 3:]
        colour += seen[..., :3]
        return np.asarray(seen[..., 3], np.float32)


class Spray:
    """A cloud of foam and dust, or of drops, that follows an object and changes in every frame.

    Foam hides the object. Between drops most of it is still visible, in pieces of a few pixels.

    Args:
        where: centre of the cloud `(T, 2)`, in pixels.
        extent: radius of the cloud in pixels.
    """

    def __init__(self, where: Floats, extent: float, size: int, rng: Rng) -> None:
        self.where = where
        self.radii = extent * np.exp(rng.normal(0, 0.4, 2))
        drops = rng.random() < 0.7
        self.density = float(rng.uniform(-0.8, 0.9) if drops else rng.uniform(0.3, 1.6))
        self.turn = float(rng.uniform(0.1, 1.6))
        self.noises = [_fractal_noise(size, rng, coarsest=size // 32 if drops else 4) for _ in range(2)]
        brightness = rng.uniform(0.75, 1.0) if rng.random() < 0.7 else rng.uniform(0.1, 0.75)
        self.colour = (brightness * np.exp(rng.normal(0, 0.04, 3))).astype(np.float32)
        self.grain = _fractal_noise(size, rng)

    def draw(self, frame: int, colour: Floats) -> Floats:
        """Draw the cloud in this frame."""
        size = len(colour)
        axis = np.arange(size, dtype=np.float32)
        across = (axis - self.where[frame, 0]) / self.radii[0]
        down = (axis - self.where[frame, 1]) / self.radii[1]
        distance = np.hypot(across[None], down[:, None])
        phase = self.turn * frame
        noise = np.cos(phase) * self.noises[0] + np.sin(phase) * self.noises[1]
        alpha = np.clip(4 * (noise + self.density - 1.6 * distance) + 0.5, 0, 1)[..., None]
        paint = np.clip(self.colour * (1 + 0.1 * self.grain[..., None]), 0, 1)
        colour *= 1 - alpha
        colour += paint * alpha
        return np.asarray(alpha[..., 0], np.float32)


def _fractal_noise(size: int, rng: Rng, coarsest: int = 4) -> Floats:
    """Return noise `(S, S)` of variance about 1. Details range from 1/`coarsest` of the frame to two pixels."""
    total = np.zeros((size, size), np.float32)
    cells, weight, power = coarsest, 1.0, 0.0
    while cells <= size // 2:
        grid = rng.standard_normal((cells, cells), np.float32)
        total += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        power += weight**2
        cells, weight = 2 * cells, 0.85 * weight
    return total / np.float32(0.7 * np.sqrt(power))
