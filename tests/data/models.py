"""Small models for the tests of solids, written byte by byte in the formats that the readers read."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from stm_fast.data.synthetic.solids.model import Model, Part, assemble

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
SIDES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
TRIANGLES = np.concatenate([SIDES[:, [0, 1, 2]], SIDES[:, [0, 2, 3]]])
TEXCOORDS = np.float32([[0.25 * k % 1, 0.4 * k % 1] for k in range(8)])


def texture(colour: tuple[int, ...] = (200, 60, 30)) -> np.ndarray:
    return np.full((8, 8, len(colour)), colour, np.uint8)


def cube(frames: np.ndarray | None = None, colour: tuple[int, ...] = (200, 60, 30)) -> Model:
    """Return a cube, or one whose eight vertices are `frames` `(F, 8, 3)`."""
    positions = CUBE[None] if frames is None else frames
    model = assemble([Part(positions, TRIANGLES, TEXCOORDS, texture(colour))])
    assert model is not None
    return model


def png(picture: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    return data.getvalue()


def g3d(frames: np.ndarray, name: bytes = b"skin.png", properties: int = 0) -> bytes:
    head = struct.pack("<64s3I8f2I", b"cube", len(frames), 8, 36, *(0.5,) * 8, properties, int(bool(name)))
    names = struct.pack("<64s", name) if name else b""
    places = frames.astype("<f4").tobytes() + frames.astype("<f4").tobytes()
    coordinates = TEXCOORDS.astype("<f4").tobytes() if name else b""
    return (
        b"G3D\x04" + struct.pack("<HB", 1, 0) + head + names + places + coordinates + TRIANGLES.astype("<u4").tobytes()
    )


def md3(frames: np.ndarray, tags: dict[str, np.ndarray] | None = None, surface: bytes = b"body") -> bytes:
    """Return a file of one surface; a tag is its origin in each frame, `(F, 3)`."""
    tags = tags or {}
    shader = struct.pack("<64si", b"skin.tga", 0)
    points = np.zeros((len(frames), 8, 4), "<i2")
    points[..., :3] = np.round(frames * 64)
    blocks = [shader, TRIANGLES.astype("<i4").tobytes(), TEXCOORDS.astype("<f4").tobytes(), points.tobytes()]
    starts = np.cumsum([108, *(len(block) for block in blocks)])
    shaders, faces, coordinates, places, end = starts.tolist()
    head = struct.pack(
        "<4s64s10i", b"IDP3", surface, 0, len(frames), 1, 8, len(TRIANGLES), faces, shaders, coordinates, places, end
    )
    rows = [
        struct.pack("<64s12f", name.encode(), *origins[frame], *(3 * np.eye(3)).ravel())
        for frame in range(len(frames))
        for name, origins in tags.items()
    ]
    size = 108 + len(b"".join(rows))
    header = struct.pack("<4si64s9i", b"IDP3", 15, b"cube", 0, len(frames), len(tags), 1, 0, 108, 108, size, size + end)
    return header + b"".join(rows) + head + b"".join(blocks)


def ac3d(surface: str = "0x10") -> str:
    """Return a file of a cube, inside an object that is moved by (5, 0, 0) and turned about the vertical axis."""
    lines = ["AC3Db", 'MATERIAL "red" rgb 1 0 0 amb 1 1 1 emis 0 0 0 spec 0 0 0 shi 10 trans 0']
    lines += ["OBJECT world", "kids 1", "OBJECT group", "loc 5 0 0", "rot 0 0 -1 0 1 0 1 0 0", "kids 1"]
    lines += ["OBJECT poly", 'name "cube"', "numvert 8", *(f"{x} {y} {2 * z}" for x, y, z in CUBE), "numsurf 6"]
    for side in SIDES:
        order = side if surface == "0x10" else side[[0, 1, 3, 2]]
        lines += [f"SURF {surface}", "mat 0", "refs 4", *(f"{k} 0.5 0.25" for k in order)]
    return "\n".join([*lines, "kids 0", ""])


def obj() -> str:
    vertices = [f"v {x} {y} {z}" for x, y, z in CUBE]
    faces = ["f " + " ".join(f"{k + 1}/1/1" for k in side) for side in SIDES[:3]]
    more = ["usemtl glass", "f 1 2 3", "usemtl plain"] + [
        "f " + " ".join(str(k - 8) for k in side) for side in SIDES[3:]
    ]
    return "\n".join(["mtllib cube.mtl", *vertices, "vt 0.5 0.25", "usemtl painted", *faces, *more, ""])


OBJ_MATERIALS = "newmtl painted\nmap_Kd skin.png\nnewmtl plain\nKd 0 0 1\nnewmtl glass\nKd 1 1 1\nd 0.1\n"


def placement(x: float, y: float, z: float, turn: float = 0.0) -> bytes:
    """Return a translation and a turn about the vertical axis as seven numbers."""
    return struct.pack("<7f", x, y, z, 0, np.sin(turn / 2), 0, np.cos(turn / 2))


def pmd() -> bytes:
    """Return a cube whose upper half hangs on the second of two bones, with a point for a prop on it."""
    vertices = b"".join(
        struct.pack("<8f4B4f", x, y, z, 0, 1, 0, u, v, int(y > 0), 255, 255, 255, 1, 0, 0, 0)
        for (x, y, z), (u, v) in zip(CUBE, TEXCOORDS, strict=True)
    )
    data = struct.pack("<2I", 8, 1) + vertices + struct.pack("<I", 12) + TRIANGLES.astype("<u2").tobytes()
    data += struct.pack("<I", 2) + placement(0, 0, 0) + placement(0, 1, 0)
    data += struct.pack("<2I", 1, 4) + b"head" + placement(0, 2, 0) + b"\x01"
    return b"PSMD" + struct.pack("<2I", 4, len(data)) + data


def psa(lifts: list[float]) -> bytes:
    """Return a motion in which the second bone is lifted by each of `lifts`."""
    data = struct.pack("<I", 4) + b"walk" + struct.pack("<f2I", 33, 2, len(lifts))
    data += b"".join(placement(0, 0, 0) + placement(0, 1 + lift, 0) for lift in lifts)
    return b"PSSA" + struct.pack("<2I", 1, len(data)) + data


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
