"""Models in id Software's format MD3: meshes whose vertices are stored once for each frame, and points to join them."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.solids.store import numbers

Floats = NDArray[np.float32]

_HEADER = struct.Struct("<4si64s9i")  # magic, version, name, flags, frames, tags, surfaces, skins, offsets
_SURFACE = struct.Struct("<4s64s10i")  # magic, name, flags, frames, shaders, vertices, triangles, offsets
_TAG = struct.Struct("<64s12f")
_SCALE = 1 / 64


@dataclass(frozen=True)
class Surface:
    """One mesh.

    Attributes:
        name, shader: names that tell its texture.
        positions: `(F, V, 3)`: forward, left, up.
        triangles: `(N, 3)`.
        texcoords: `(V, 2)`: right and down.
    """

    name: str
    shader: str
    positions: Floats
    triangles: NDArray[np.int64]
    texcoords: Floats


@dataclass(frozen=True)
class Md3:
    """A file: its surfaces, and the placements of its tags in each frame as `(F, 3, 4)`: axes and origin."""

    surfaces: tuple[Surface, ...]
    tags: dict[str, Floats]


def read_md3(data: bytes) -> Md3:
    """Return the contents of a file.

    Raises:
        ValueError: the file is damaged, or of another format.
    """
    if data[:4] != b"IDP3":
        raise ValueError(f"starts with {data[:4]!r}, not with IDP3")
    try:
        header = _HEADER.unpack_from(data)
        frames, tags, surfaces = header[4:7]
        tag_start, place = header[9:11]
        placements: dict[str, Floats] = {}
        for index in range(tags):
            rows = [_TAG.unpack_from(data, tag_start + (frame * tags + index) * _TAG.size) for frame in range(frames)]
            values = np.array([row[1:] for row in rows], np.float32).reshape(-1, 4, 3)
            placements[_text(rows[0][0])] = np.concatenate(
                [values[:, 1:].transpose(0, 2, 1), values[:, :1].transpose(0, 2, 1)], 2
            )
        found = []
        for _ in range(surfaces):
            surface, size = _surface(data, place)
            found.append(surface)
            place += size
    except (struct.error, IndexError) as error:
        raise ValueError(f"is damaged: {error}") from error
    return Md3(tuple(found), placements)


def _surface(data: bytes, start: int) -> tuple[Surface, int]:
    _, name, _, frames, shaders, vertices, triangles, faces, names, places, points, end = _SURFACE.unpack_from(
        data, start
    )
    if end <= 0:
        raise ValueError("has a surface without an end")
    index = numbers(data, "<i4", 3 * triangles, start + faces).reshape(-1, 3)
    texcoords = numbers(data, "<f4", 2 * vertices, start + places).reshape(-1, 2)
    packed = numbers(data, "<i2", 4 * frames * vertices, start + points).reshape(frames, vertices, 4)
    shader = _text(data[start + names : start + names + 64]) if shaders else ""
    positions = packed[..., :3].astype(np.float32) * np.float32(_SCALE)
    return Surface(_text(name), shader, positions, index.astype(np.int64), texcoords), end


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("latin-1")
