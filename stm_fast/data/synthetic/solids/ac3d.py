"""Models in AC3D's text format, of the current kind and of the one that TORCS adds to it."""

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from stm_fast.data.synthetic.solids.model import Part, Picture
from stm_fast.data.synthetic.solids.store import flat_colour

_Key = tuple[str | None, int]

_POLYGON, _STRIP = 0, 4


def read_ac3d(text: str, texture: Callable[[str], Picture], leave_out: tuple[str, ...] = ()) -> list[Part]:
    """Return the surfaces of a file, one part for each texture and material.

    Args:
        texture: returns the picture of a name.
        leave_out: parts of names of objects that are not wanted.

    Raises:
        ValueError: the file is damaged, or of another format.
    """
    lines = iter(text.splitlines())
    if not next(lines, "").startswith("AC3D"):
        raise ValueError("does not start with AC3D")
    corners: dict[_Key, list[np.ndarray]] = defaultdict(list)
    colours: list[Picture] = []
    try:
        for line in lines:
            words = shlex.split(line)
            if words[:1] == ["MATERIAL"]:
                red, green, blue = (float(word) for word in words[3:6])
                colours.append(flat_colour(red, green, blue))
            elif words[:1] == ["OBJECT"]:
                _read_object(lines, np.eye(3), np.zeros(3), corners, leave_out)
    except (IndexError, StopIteration, RecursionError) as error:
        raise ValueError(f"ends early or is damaged: {error}") from error
    return [_part(key, np.array(rows), colours, texture) for key, rows in corners.items()]


def _read_object(
    lines: Iterator[str],
    turn: np.ndarray,
    shift: np.ndarray,
    corners: dict[_Key, list[np.ndarray]],
    leave_out: tuple[str, ...],
) -> None:
    """Read an object and those inside it, which `turn` and `shift` place; add the corners of its triangles."""
    name, texture, repeat = "", None, np.ones(2)
    vertices = np.zeros((0, 3))
    for line in lines:
        words = shlex.split(line)
        match words:
            case ["name", name]:
                pass
            case ["data", length]:
                left = int(length) + 1
                while left > 0:
                    left -= len(next(lines)) + 1
            case ["texture", found, "base"] | ["texture", found]:
                texture = found
            case ["texrep", across, down]:
                repeat = np.array([float(across), float(down)])
            case ["rot", *numbers]:
                turn = turn @ np.array([float(number) for number in numbers]).reshape(3, 3).T
            case ["loc", *numbers]:
                shift = shift + turn @ np.array([float(number) for number in numbers])
            case ["numvert", count]:
                places = [[float(number) for number in next(lines).split()[:3]] for _ in range(int(count))]
                vertices = np.array(places).reshape(-1, 3) @ turn.T + shift
            case ["numsurf", count]:
                wanted = not any(part in name.lower() for part in leave_out)
                for _ in range(int(count)):
                    material, rows = _read_surface(lines)
                    if wanted and len(rows):
                        points = np.concatenate([vertices[rows[..., 0].astype(int)], rows[..., 1:] * repeat], -1)
                        corners[texture, material].extend(points)
            case ["kids", count]:
                for _ in range(int(count)):
                    while not next(lines).startswith("OBJECT"):
                        pass
                    _read_object(lines, turn, shift, corners, leave_out)
                return


def _read_surface(lines: Iterator[str]) -> tuple[int, np.ndarray]:
    """Return a surface's material and the corners of its triangles `(n, 3, 3)`: vertex and place in the texture."""
    material, kind = 0, _POLYGON
    for line in lines:
        words = line.split()
        if words[0] == "SURF":
            kind = int(words[1], 0) & 15
        elif words[0] == "mat":
            material = int(words[1])
        elif words[0] == "refs":
            rows = np.array([[float(number) for number in next(lines).split()[:3]] for _ in range(int(words[1]))])
            second = np.arange(1, max(len(rows) - 1, 1))
            if kind == _POLYGON:
                return material, rows[np.stack([0 * second, second, second + 1], 1)]
            if kind == _STRIP:
                return material, rows[np.stack([second - 1, second, second + 1], 1)]
            return material, np.zeros((0, 3, 3))
    raise IndexError("a surface without corners")


def _part(key: _Key, corners: np.ndarray, colours: list[Picture], texture: Callable[[str], Picture]) -> Part:
    name, material = key
    rows = corners.reshape(-1, 5)
    triangles = np.arange(len(rows)).reshape(-1, 3)
    picture, texcoords = None, (rows[:, 3:] * [1, -1]).astype(np.float32)
    if name is not None:
        try:
            picture = texture(name)
        except ValueError:
            picture = None
    positions = rows[None, :, :3].astype(np.float32)
    if picture is None:
        return Part(positions, triangles, None, colours[material] if material < len(colours) else flat_colour(1, 1, 1))
    return Part(positions, triangles, texcoords, picture)
