"""Bodies: what moves in a synthetic clip. Each draws itself where its pose puts it."""

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.assets import AssetLibrary, Picture
from stm_fast.data.synthetic.motion import Path, ThinPlate
from stm_fast.data.synthetic.objects import camouflage, random_sprite, tint

Rng = np.random.Generator
Floats = NDArray[np.float32]

FIELD_STEP = 16

B = TypeVar("B", bound="Body")


class Body(Protocol):
    """Something that can be drawn in each frame of a clip."""

    def draw(self, frame: int, pose: Floats, size: int) -> Floats:
        """Return red, green, blue and coverage `(size, size, 4)` in [0, 1].

        Args:
            pose: map `(2, 3)` from the body's plane, where it is about [-1, 1] wide or high, to pixels.
        """
        ...

    def shadow(self, frame: int, pose: Floats, size: int) -> Floats | None:
        """Return how much darker its shadow makes what is behind it, `(size, size)` in [0, 1], or None without one."""
        ...

    def move(self, path: Path, rng: Rng) -> Path:
        """Return the path that this body takes in place of `path`."""
        ...

    def hide(self: B, background: Floats, rng: Rng) -> B:
        """Return this body with the colours of a background `(h, w, 3)` in [0, 1], wholly or in part."""
        ...

    def twin(self: B, recoloured: bool, rng: Rng) -> B:
        """Return a body that looks like this one, or differs in its colours, and moves in its own way."""
        ...


@dataclass(frozen=True)
class Sprite:
    """A flat picture that bends.

    Attributes:
        picture: RGBA uint8.
        frames: number of frames of the clip.
        speed: how fast the clip is.
        warp: its deformation.
    """

    picture: Picture
    frames: int
    speed: float
    warp: ThinPlate

    @classmethod
    def of(cls, picture: Picture, frames: int, speed: float, rng: Rng) -> "Sprite":
        """Return a picture with a random deformation."""
        amount = 0.0 if rng.random() < 0.2 else rng.uniform(0.02, 0.13)
        return cls(picture, frames, speed, ThinPlate(frames, amount, min(0.6, 0.25 * speed), rng))

    @classmethod
    def random(cls, library: AssetLibrary, frames: int, speed: float, rng: Rng) -> "Sprite":
        """Return a random sprite."""
        return cls.of(random_sprite(library, rng), frames, speed, rng)

    def shadow(self, frame: int, pose: Floats, size: int) -> None:
        """Return None: a flat picture has no place to cast a shadow."""

    def move(self, path: Path, rng: Rng) -> Path:
        """Return `path` as it is."""
        return path

    def hide(self, background: Floats, rng: Rng) -> "Sprite":
        """Return a sprite with the colours of a background, wholly or on one side."""
        return replace(self, picture=camouflage(self.picture, background, rng))

    def twin(self, recoloured: bool, rng: Rng) -> "Sprite":
        """Return a sprite of the same picture."""
        picture = tint(self.picture, rng) if recoloured else self.picture
        return Sprite.of(picture, self.frames, self.speed, rng)

    def draw(self, frame: int, pose: Floats, size: int) -> Floats:
        """Return the picture as it is seen, with its deformation in this frame."""
        sprite = self.picture
        height, width = sprite.shape[:2]
        extent = float(np.sqrt(abs(np.linalg.det(pose[:, :2])))) * 2
        shrink = min(1.0, 1.25 * extent / max(height, width))
        if shrink < 0.8:
            target = (max(4, round(width * shrink)), max(4, round(height * shrink)))
            sprite = cv2.resize(sprite, target, interpolation=cv2.INTER_AREA)
        to_sprite = self._map(frame, pose, size) * (max(sprite.shape[:2]) / 2)
        map_x = to_sprite[..., 0] + sprite.shape[1] / 2 - 0.5
        map_y = to_sprite[..., 1] + sprite.shape[0] / 2 - 0.5
        warped = cv2.remap(sprite, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(warped.astype(np.float32) / 255)

    def _map(self, frame: int, pose: Floats, size: int) -> Floats:
        """Return the point of the sprite that each pixel shows, in its units `(S, S, 2)`; interpolate a coarse grid."""
        steps = size // FIELD_STEP + 1
        axis = np.linspace(0, size - 1, steps, dtype=np.float32)
        pixels = np.stack(np.meshgrid(axis, axis), -1)
        inverse = cv2.invertAffineTransform(pose)
        points = pixels @ inverse[:, :2].T + inverse[:, 2]
        points = points + self.warp.displace(frame, points)
        ratio = (steps - 1) / (size - 1)
        dense = np.array([[ratio, 0, 0], [0, ratio, 0]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(points, dense, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
        )
