"""Models in Wavefront's text format OBJ, with their materials."""

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from stm_fast.data.synthetic.solids.model import Part, Picture
from stm_fast.data.synthetic.solids.store import flat_colour

MIN_OPACITY = 0.5


def read_obj(text: str, read: Callable[[str], str], texture: Callable[[str], Picture]) -> list[Part]:
    """Return the faces of a file, one part for each material; glass is left out.

    Args:
        read: returns the text of a file of materials.
        texture: returns the picture of a name.

    Raises:
        ValueError: the file is damaged.
    """
    places: list[list[float]] = []
    texcoords: list[list[float]] = []
    materials: dict[str, Picture | None] = {}
    corners: dict[str, list[tuple[int, int]]] = defaultdict(list)
    name = ""
    try:
        for line in text.splitlines():
            words = line.split()
            match words[:1]:
                case ["v"]:
                    places.append([float(word) for word in words[1:4]])
                case ["vt"]:
                    texcoords.append([float(word) for word in words[1:3]])
                case ["mtllib"]:
                    materials |= _read_materials(read(line.split(None, 1)[1].strip()), texture)
                case ["usemtl"]:
                    name = line.split(None, 1)[1].strip()
                case ["f"]:
                    face = [_corner(word, len(places), len(texcoords)) for word in words[1:]]
                    for second, third in pairwise(face[1:]):
                        corners[name] += [face[0], second, third]
    except IndexError as error:
        raise ValueError(f"damaged line: {error}") from error
    points, coordinates = np.array(places, np.float32), np.array(texcoords, np.float32).reshape(-1, 2)
    parts = []
    for name, rows in corners.items():
        picture = materials.get(name, flat_colour(0.8, 0.8, 0.8))
        index = np.array(rows)
        if picture is None or index[:, 0].min() < 0 or index[:, 0].max() >= len(points):
            continue
        has_texcoords = len(coordinates) > index[:, 1].max() and index[:, 1].min() >= 0
        where = coordinates[index[:, 1]] * np.array([1, -1], np.float32) if has_texcoords else None
        parts.append(Part(points[None, index[:, 0]], np.arange(len(index)).reshape(-1, 3), where, picture))
    return parts


def _corner(word: str, places: int, texcoords: int) -> tuple[int, int]:
    """Return the indices of a corner's place and texture coordinates; the latter is -1 without any."""
    numbers = word.split("/")
    place = int(numbers[0])
    texcoord = int(numbers[1]) if len(numbers) > 1 and numbers[1] else 0
    return (place - 1 if place > 0 else places + place), (texcoord + texcoords if texcoord < 0 else texcoord - 1)


def _read_materials(text: str, texture: Callable[[str], Picture]) -> dict[str, Picture | None]:
    """Return the texture of each material, None of those one can see through."""
    materials: dict[str, Picture | None] = {}
    name = ""
    for line in text.splitlines():
        words = line.split()
        match words[:1]:
            case ["newmtl"]:
                name = line.split(None, 1)[1].strip()
                materials[name] = flat_colour(0.8, 0.8, 0.8)
            case ["Kd"] if name:
                red, green, blue = (float(word) for word in words[1:4])
                materials[name] = flat_colour(red, green, blue)
            case ["map_Kd"] if name:
                try:
                    materials[name] = texture(line.split(None, 1)[1].strip())
                except ValueError:
                    continue
            case ["d"] if name and len(words) == 2 and float(words[1]) < MIN_OPACITY:
                materials[name] = None
    return materials
