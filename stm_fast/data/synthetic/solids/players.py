"""Players of Quake III engines: three MD3 files, legs, torso and head, that are joined at tags."""

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.solids.md3 import Md3, read_md3
from stm_fast.data.synthetic.solids.model import MAX_FRAMES, Part, Picture
from stm_fast.data.synthetic.solids.store import Store, flat_colour

Floats = NDArray[np.float32]

_UPRIGHT = np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]], np.float32)  # from forward, left, up to right, up, towards us
_FIRST_OF_LEGS = 13  # row of an animation file from which the legs' own animations come
_FIRST_OF_TORSO = 6


def player_parts(store: Store, folder: str, skin: str, motion: int) -> list[Part]:
    """Return the parts of a player in one of its motions.

    Args:
        folder: the player's folder, such as models/players/tony.
        skin: name of a skin, such as default.
        motion: number of the motion among those of the legs.

    Raises:
        ValueError: a file is missing or damaged.
    """
    legs, torso, head = (read_md3(store.read(f"{folder}/{part}.md3")) for part in ("lower", "upper", "head"))
    rows = animations(store.read(f"{folder}/animation.cfg").decode("latin-1"))
    if len(rows) <= _FIRST_OF_LEGS:
        raise ValueError(f"{folder}: {len(rows)} animations, at least {_FIRST_OF_LEGS + 1} wanted")
    shift = rows[_FIRST_OF_LEGS][0] - rows[_FIRST_OF_TORSO][0]
    first, count = rows[_FIRST_OF_LEGS:][motion % len(rows[_FIRST_OF_LEGS:])]
    steps = np.arange(min(max(count, 1), MAX_FRAMES))
    leg_frames = first - shift + steps
    first, count = rows[_FIRST_OF_TORSO + motion % (_FIRST_OF_LEGS - _FIRST_OF_TORSO)]
    torso_frames = first + steps % max(count, 1)
    identity = np.broadcast_to(np.eye(4, dtype=np.float32)[:3], (len(steps), 3, 4))
    on_legs = _joined(identity, _tag(legs, "tag_torso", leg_frames))
    on_torso = _joined(on_legs, _tag(torso, "tag_head", torso_frames))
    parts = _parts(store, legs, f"{folder}/lower_{skin}.skin", leg_frames, identity)
    parts += _parts(store, torso, f"{folder}/upper_{skin}.skin", torso_frames, on_legs)
    return parts + _parts(store, head, f"{folder}/head_{skin}.skin", 0 * steps, on_torso)


def animations(text: str) -> list[tuple[int, int]]:
    """Return first frame and number of frames of each animation of an animation.cfg."""
    rows = []
    for line in text.splitlines():
        words = line.split("//")[0].split()
        if len(words) >= 4 and words[0].isdigit():
            rows.append((int(words[0]), int(words[1])))
    return rows


def surface_texture(store: Store, name: str) -> Picture | None:
    """Return the picture of a shader, whose name may have another suffix than the file; None if there is none."""
    stem = name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name
    found = store.find(name, *(stem + suffix for suffix in (".tga", ".jpg", ".png")))
    try:
        return None if found is None else store.picture(found)
    except ValueError:
        return None


def _tag(model: Md3, name: str, frames: NDArray[np.int64]) -> Floats:
    """Return the placements of a tag `(F, 3, 4)`, with axes of length 1, as engines make them."""
    if name not in model.tags:
        raise ValueError(f"no {name}")
    placements = model.tags[name][np.clip(frames, 0, len(model.tags[name]) - 1)].copy()
    placements[:, :, :3] /= np.maximum(np.linalg.norm(placements[:, :, :3], axis=1, keepdims=True), 1e-6)
    return placements


def _joined(outer: Floats, inner: Floats) -> Floats:
    """Return the placements `(F, 3, 4)` of what is placed by `inner` in something placed by `outer`."""
    joined = outer[:, :, :3] @ inner
    joined[:, :, 3] += outer[:, :, 3]
    return np.asarray(joined, np.float32)


def _parts(store: Store, model: Md3, skin: str, frames: NDArray[np.int64], where: Floats) -> list[Part]:
    names = dict[str, str]()
    for line in store.read(skin).decode("latin-1").splitlines():
        key, _, name = line.partition(",")
        names[key.strip().lower()] = name.strip()
    parts = []
    for surface in model.surfaces:
        name = names.get(surface.name.lower(), "")
        if not name or "nodraw" in name or not len(surface.positions):
            continue
        picture = surface_texture(store, name)
        positions = surface.positions[np.clip(frames, 0, len(surface.positions) - 1)]
        placed = (positions @ where[:, :, :3].transpose(0, 2, 1) + where[:, None, :, 3]) @ _UPRIGHT.T
        picture = flat_colour(0.5, 0.5, 0.5) if picture is None else np.ascontiguousarray(picture[..., :3])
        parts.append(Part(placed.astype(np.float32), surface.triangles, surface.texcoords, picture))
    return parts


def object_parts(store: Store, name: str) -> list[Part]:
    """Return the parts of a model that stands alone.

    Raises:
        ValueError: the file is missing or damaged.
    """
    parts = []
    for surface in read_md3(store.read(name)).surfaces:
        picture = surface_texture(store, surface.shader)
        if picture is not None and len(surface.positions):
            parts.append(Part(surface.positions @ _UPRIGHT.T, surface.triangles, surface.texcoords, picture))
    return parts
