"""Cars of TORCS: a body, and wheels that turn, placed as the car's description says."""

import posixpath
import xml.etree.ElementTree as ElementTree

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.solids.ac3d import read_ac3d
from stm_fast.data.synthetic.solids.model import Part
from stm_fast.data.synthetic.solids.store import Store

Floats = NDArray[np.float32]

TURN_FRAMES = 12
INCH = 0.0254
_AXLES = {"Front": ("Front Axle", 1.2), "Rear": ("Rear Axle", -1.2)}


def car_parts(store: Store, name: str) -> list[Part]:
    """Return the parts of a car, whose wheels turn.

    Args:
        name: the body's file, such as cars/car1-trb1/car1-trb1.acc. Wheels come from the folder `wheels`.

    Raises:
        ValueError: the body's file is missing or damaged.
    """
    parts = _read(store, name)
    try:
        root = ElementTree.fromstring(store.read(name.rsplit(".", 1)[0] + ".xml"))
        folder = _text(root, "Graphic Objects", "3d wheel directory", "stock1-1")
        wheel = _read(store, f"wheels/{folder}/wheel0.acc")
        return parts + [
            _fitted(root, part, axle, side) for axle in _AXLES for side in ("Left", "Right") for part in wheel
        ]
    except (ElementTree.ParseError, ValueError):
        return parts


def _read(store: Store, name: str) -> list[Part]:
    folder = posixpath.dirname(name)
    text = store.read(name).decode("latin-1")
    return read_ac3d(text, lambda file: store.picture(posixpath.join(folder, file)), ("light", "shadow"))


def _fitted(root: ElementTree.Element, part: Part, axle: str, side: str) -> Part:
    """Return a wheel, of diameter and width 1, in its place and turning. A car looks along x, y is up."""
    section = f"{axle} {side} Wheel"
    width = _number(root, section, "tire width", 250) / 1000
    ratio = _number(root, section, "tire height-width ratio", 0.4)
    radius = _number(root, section, "rim diameter", 17) * INCH / 2 + width * ratio
    along = _number(root, *(_AXLES[axle][0], "xpos"), _AXLES[axle][1])
    across = _number(root, section, "ypos", 0.8 if side == "Left" else -0.8)
    turns = -np.arange(TURN_FRAMES) * np.pi / 15
    cos, sin = np.cos(turns), np.sin(turns)
    x, y, z = part.positions[0].T
    outwards = z if side == "Right" else -z
    places = np.stack(
        [
            along + 2 * radius * (np.outer(cos, x) - np.outer(sin, y)),
            radius + 2 * radius * (np.outer(sin, x) + np.outer(cos, y)),
            np.broadcast_to(-across + width * outwards, (TURN_FRAMES, len(z))),
        ],
        -1,
    )
    return Part(places.astype(np.float32), part.triangles, part.texcoords, part.texture)


def _attribute(root: ElementTree.Element, section: str, name: str) -> str | None:
    for found in root.iter("section"):
        if found.get("name") == section:
            for entry in found:
                if entry.get("name") == name:
                    return entry.get("val")
    return None


def _text(root: ElementTree.Element, section: str, name: str, default: str) -> str:
    return _attribute(root, section, name) or default


def _number(root: ElementTree.Element, section: str, name: str, default: float) -> float:
    return float(_attribute(root, section, name) or default)
