"""A model: a textured triangle mesh whose vertices move from frame to frame, and its file."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stm_fast.errors import StmFastError

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

MAX_FRAMES = 24
MAX_TRIANGLES = 20_000
MIN_TRIANGLES = 12
MAX_TEXTURE = 512
MAX_MATERIALS = 64
_UNIT = 32767


@dataclass(frozen=True)
class Part:
    """A piece of a model as its file has it.

    Attributes:
        positions: vertices of each frame `(F, V, 3)`: right, up and towards the viewer of the model's front.
        triangles: indices of vertices `(N, 3)`.
        texcoords: place of each vertex in the texture `(V, 2)`: right and down, repeating every 1; None without one.
        texture: `(h, w, 3 or 4)` uint8. Where alpha is below one half, the surface has a hole.
    """

    positions: Floats
    triangles: NDArray[np.int64]
    texcoords: Floats | None
    texture: Picture


@dataclass(frozen=True)
class Model:
    """A model about the origin, at most 1 from it in every frame.

    Attributes:
        frames: vertices `(F, V, 3)` float32: right, up, towards the viewer.
        triangles: indices of vertices `(N, 3)`.
        texcoords: places of the vertices in their texture `(V, 2)`: right and down, repeating every 1.
        material: the texture of each triangle `(N,)`.
        textures: `(h, w, 3 or 4)` uint8 each.
    """

    frames: Floats
    triangles: NDArray[np.int64]
    texcoords: Floats
    material: NDArray[np.int64]
    textures: tuple[Picture, ...]

    @cached_property
    def twins(self) -> NDArray[np.int64]:
        """For each vertex, a number `(V,)` that vertices at the same place share."""
        places = np.round(self.frames[0] * 2048).astype(np.int64)
        keys = (places[:, 0] * 8192 + places[:, 1]) * 8192 + places[:, 2]
        return np.unique(keys, return_inverse=True)[1].astype(np.int64)

    def at(self, time: float) -> Floats:
        """Return the vertices `(V, 3)` at a time counted in frames, which runs forth and back through them."""
        last = len(self.frames) - 1
        if last == 0:
            return np.asarray(self.frames[0])
        time = last - abs(time % (2 * last) - last)
        first = min(int(time), last - 1)
        share = np.float32(time - first)
        return np.asarray((1 - share) * self.frames[first] + share * self.frames[first + 1], np.float32)

    def save(self, path: Path) -> None:
        """Write the model; pictures are stored as JPEG, or as PNG if they have holes."""
        arrays: dict[str, Any] = {
            "frames": np.round(self.frames * _UNIT).astype(np.int16),
            "triangles": self.triangles.astype(np.uint16 if len(self.texcoords) < 65536 else np.uint32),
            "texcoords": self.texcoords,
            "material": self.material.astype(np.uint8),
        }
        arrays |= {f"texture_{index:02d}": _encoded(picture) for index, picture in enumerate(self.textures)}
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Model":
        """Read a model.

        Raises:
            StmFastError: the file is damaged or no model.
        """
        try:
            with np.load(path) as file:
                pictures = [
                    np.asarray(Image.open(io.BytesIO(file[k].tobytes()))) for k in sorted(file) if "texture_" in k
                ]
                return cls(
                    file["frames"].astype(np.float32) / _UNIT,
                    file["triangles"].astype(np.int64),
                    file["texcoords"].astype(np.float32),
                    file["material"].astype(np.int64),
                    tuple(pictures),
                )
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, UnidentifiedImageError) as error:
            raise StmFastError(f"{path} is not a model of this library: {error}") from error


def assemble(parts: Sequence[Part]) -> Model | None:
    """Join parts to one model of the library's size; return None if they are no usable model.

    Parts that do not move are still in every frame. Parts without texture coordinates get those of a projection along
    the axis that each triangle faces most.
    """
    parts = [part for part in (_checked(part) for part in parts) if part is not None]
    count = sum(len(part.triangles) for part in parts)
    if not MIN_TRIANGLES <= count <= MAX_TRIANGLES or len(parts) > MAX_MATERIALS:
        return None
    length = min(MAX_FRAMES, max(len(part.positions) for part in parts))
    steps = np.arange(length)
    frames = np.concatenate([part.positions[np.minimum(steps, len(part.positions) - 1)] for part in parts], 1)
    frames = frames.astype(np.float64)
    low, high = frames.min((0, 1)), frames.max((0, 1))
    frames -= (low + high) / 2
    radius = float(np.sqrt((frames**2).sum(-1)).max())
    if not np.isfinite(radius) or radius < 1e-6 or np.sort(high - low)[1] < 0.05 * radius:
        return None
    frames /= radius
    starts = np.cumsum([0] + [part.positions.shape[1] for part in parts])[:-1]
    texcoords = np.concatenate([part.texcoords for part in parts if part.texcoords is not None])
    return Model(
        frames.astype(np.float32),
        np.concatenate([part.triangles + start for part, start in zip(parts, starts, strict=True)]),
        texcoords.astype(np.float32),
        np.concatenate([np.full(len(part.triangles), index) for index, part in enumerate(parts)]),
        tuple(_shrunk(part.texture) for part in parts),
    )


def _checked(part: Part) -> Part | None:
    """Return a part with texture coordinates and without triangles that do not exist, or None if nothing is left."""
    vertices = part.positions.shape[1]
    triangles = part.triangles[((part.triangles >= 0) & (part.triangles < vertices)).all(1)]
    if not len(triangles) or not np.isfinite(part.positions).all():
        return None
    if part.texcoords is not None and np.isfinite(part.texcoords).all() and np.abs(part.texcoords).max() < 1000:
        return Part(part.positions, triangles, part.texcoords, part.texture)
    positions = part.positions[:, triangles.reshape(-1)]
    corners = positions[0].reshape(-1, 3, 3)
    facing = np.abs(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])).argmax(1)
    axes = np.array([[2, 1], [0, 2], [0, 1]])[facing]
    flat = np.take_along_axis(corners, np.repeat(axes[:, None], 3, 1), 2).reshape(-1, 2)
    extent = max(float(np.ptp(part.positions[0], axis=0).max()), 1e-9)
    places = ((flat - flat.min(0)) / extent * [1, -1]).astype(np.float32)
    return Part(positions, np.arange(len(places)).reshape(-1, 3), places, part.texture)


def _shrunk(texture: Picture) -> Picture:
    scale = MAX_TEXTURE / max(texture.shape[:2])
    if scale >= 1:
        return texture
    size = tuple(max(1, round(side * scale)) for side in texture.shape[1::-1])
    return np.asarray(cv2.resize(texture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _encoded(texture: Picture) -> NDArray[np.uint8]:
    data = io.BytesIO()
    flat = texture.shape[2] == 3
    Image.fromarray(texture).save(data, "JPEG" if flat else "PNG", quality=92)
    return np.frombuffer(data.getvalue(), np.uint8)
