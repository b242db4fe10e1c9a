"""Models in Glest's format G3D, version 4: meshes whose vertices are stored once for each frame of an animation."""

import struct
from collections.abc import Callable

import numpy as np

from stm_fast.data.synthetic.solids.model import Part, Picture
from stm_fast.data.synthetic.solids.store import numbers

_MESH = struct.Struct("<64s3I8f2I")  # name, frames, vertices, indices, colours and opacity, properties, textures
_TEAM_COLOUR = 1


def read_g3d(data: bytes, texture: Callable[[str, bool], Picture]) -> list[Part]:
    """Return the meshes of a file.

    Args:
        texture: returns the picture of a name; the second argument tells that its alpha is not of holes, but of places
            for the colour of a player.

    Raises:
        ValueError: the file is damaged, or of another format.
    """
    if data[:4] != b"G3D\x04":
        raise ValueError(f"starts with {data[:4]!r}, not with G3D and version 4")
    try:
        return list(_meshes(data, texture))
    except struct.error as error:
        raise ValueError(f"ends early: {error}") from error


def _meshes(data: bytes, texture: Callable[[str, bool], Picture]) -> list[Part]:
    (count, _), place = struct.unpack_from("<HB", data, 4), 7
    parts = []
    for _ in range(count):
        _, frames, vertices, indices, *colours, properties, textures = _MESH.unpack_from(data, place)
        place += _MESH.size
        names = [data[place + 64 * k : place + 64 * k + 64] for k in range(textures.bit_count())]
        place += 64 * len(names)
        size = frames * vertices * 3
        positions = numbers(data, "<f4", size, place).reshape(frames, vertices, 3)
        place += 8 * size
        texcoords = None
        if textures:
            texcoords = numbers(data, "<f4", 2 * vertices, place).reshape(vertices, 2) * [1, -1]
            place += 8 * vertices
        triangles = numbers(data, "<u4", indices // 3 * 3, place).reshape(-1, 3).astype(np.int64)
        place += 4 * indices
        if frames and len(triangles):
            if names:
                name = names[0].split(b"\0")[0].decode("latin-1")
                picture = texture(name, bool(properties & _TEAM_COLOUR))
            else:
                picture = np.full((4, 4, 3), np.clip(255 * np.array(colours[:3]), 0, 255), np.uint8)
            parts.append(Part(positions, triangles, texcoords, picture))
    return parts
