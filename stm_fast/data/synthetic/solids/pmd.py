"""Models of 0 A.D.: meshes with bones (PMD) and the bones' motion (PSA)."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.solids.store import numbers

Floats = NDArray[np.float32]

MAX_LENGTH = 1e6
_NO_BONE = 255


@dataclass(frozen=True)
class Skin:
    """A mesh that hangs on bones.

    Attributes:
        positions: `(V, 3)` at rest.
        texcoords: `(V, 2)`: right and down.
        bones, weights: the bones that move each vertex, and how much, `(V, 4)`; 255 is none.
        triangles: `(N, 3)`.
        rest: placements of the bones at rest `(B, 4, 4)`.
        props: points where other meshes can be fastened: the bone (255: none), and the placement `(4, 4)` on it.
    """

    positions: Floats
    texcoords: Floats
    bones: NDArray[np.uint8]
    weights: Floats
    triangles: NDArray[np.int64]
    rest: Floats
    props: dict[str, tuple[int, Floats]]

    def posed(self, motion: Floats) -> Floats:
        """Return the vertices `(F, V, 3)` when the bones are placed as in `motion` `(F, B, 4, 4)`."""
        moves = motion @ np.linalg.inv(self.rest)
        places = np.concatenate([self.positions, np.ones((len(self.positions), 1), np.float32)], 1)
        result = np.zeros((len(motion), len(places), 3), np.float32)
        for slot in range(4):
            bone = self.bones[:, slot]
            used = np.flatnonzero((bone != _NO_BONE) & (self.weights[:, slot] > 0))
            moved = np.einsum("fvij,vj->fvi", moves[:, bone[used], :3], places[used])
            result[:, used] += self.weights[used, slot, None] * moved
        loose = ~((self.bones != _NO_BONE) & (self.weights > 0)).any(1)
        result[:, loose] = self.positions[loose]
        return result

    def fastening(self, name: str, motion: Floats | None) -> Floats | None:
        """Return the placements `(F, 4, 4)` of what is fastened to a point, or None if there is no such point."""
        if name == "root":
            return np.eye(4, dtype=np.float32)[None]
        if name not in self.props:
            return None
        bone, placement = self.props[name]
        if bone == _NO_BONE or not len(self.rest):
            return placement[None]
        bones = self.rest[None] if motion is None else motion
        return np.asarray(bones[:, bone] @ placement) if bone < bones.shape[1] else None


def read_pmd(data: bytes) -> Skin:
    """Return the mesh of a file of version 3 or 4.

    Raises:
        ValueError: the file is damaged, or of another format.
    """
    if data[:4] != b"PSMD" or data[4:8] not in (b"\3\0\0\0", b"\4\0\0\0"):
        raise ValueError(f"starts with {data[:8]!r}, not with PSMD and version 3 or 4")
    try:
        version, _, count = struct.unpack_from("<3I", data, 4)
        place, pairs = 16, 1
        if version == 4:
            (pairs,), place = struct.unpack_from("<I", data, 16), 20
        vertex = np.dtype(
            [
                ("position", "<f4", 3),
                ("normal", "<f4", 3),
                ("uv", "<f4", (pairs, 2)),
                ("bone", "u1", 4),
                ("weight", "<f4", 4),
            ]
        )
        vertices = np.frombuffer(data, vertex, count, place)
        place += vertex.itemsize * count
        (faces,) = struct.unpack_from("<I", data, place)
        triangles = numbers(data, "<u2", 3 * faces, place + 4).reshape(-1, 3).astype(np.int64)
        place += 4 + 6 * faces
        (bones,) = struct.unpack_from("<I", data, place)
        rest = _placements(numbers(data, "<f4", 7 * bones, place + 4).reshape(-1, 7))
        place += 4 + 28 * bones
        (points,) = struct.unpack_from("<I", data, place)
        place += 4
        props = {}
        for _ in range(points):
            (length,) = struct.unpack_from("<I", data, place)
            name = data[place + 4 : place + 4 + length].decode("latin-1")
            place += 4 + length
            state = numbers(data, "<f4", 7, place)
            props[name] = (data[place + 28], _placements(state[None])[0])
            place += 29
    except (struct.error, IndexError) as error:
        raise ValueError(f"ends early: {error}") from error
    bone = np.where(vertices["bone"] < bones, vertices["bone"], _NO_BONE).astype(np.uint8)
    texcoords = np.ascontiguousarray(vertices["uv"][:, 0]) if pairs else np.zeros((count, 2), np.float32)
    return Skin(vertices["position"].copy(), texcoords, bone, vertices["weight"].copy(), triangles, rest, props)


def read_psa(data: bytes) -> Floats:
    """Return the placements of the bones in each frame, `(F, B, 4, 4)`, at 30 frames a second.

    Raises:
        ValueError: the file is damaged, or of another format.
    """
    if data[:4] != b"PSSA":
        raise ValueError(f"starts with {data[:4]!r}, not with PSSA")
    try:
        (length,) = struct.unpack_from("<I", data, 12)
        place = 16 + length + 4
        bones, frames = struct.unpack_from("<2I", data, place)
    except struct.error as error:
        raise ValueError(f"ends early: {error}") from error
    states = numbers(data, "<f4", 7 * bones * frames, place + 8).reshape(-1, 7)
    return _placements(states).reshape(frames, bones, 4, 4)


def _placements(states: Floats) -> Floats:
    """Return matrices `(n, 4, 4)` of translations and quaternions (x, y, z, w) `(n, 7)`."""
    if not (np.abs(states) < MAX_LENGTH).all():
        raise ValueError("a placement of a bone is no number, or huge")
    x, y, z, w = (states[:, 3:] / np.maximum(np.linalg.norm(states[:, 3:], axis=1, keepdims=True), 1e-9)).T
    matrices = np.zeros((len(states), 4, 4), np.float32)
    matrices[:, 0, :3] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], 1)
    matrices[:, 1, :3] = np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], 1)
    matrices[:, 2, :3] = np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], 1)
    matrices[:, :3, 3] = states[:, :3]
    matrices[:, 3, 3] = 1
    return matrices
