"""Actors of 0 A.D.: meshes with textures, motions, and other actors fastened to them (heads, riders, shields)."""

import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.solids.model import MAX_FRAMES, Part, Picture
from stm_fast.data.synthetic.solids.pmd import read_pmd, read_psa
from stm_fast.data.synthetic.solids.store import Store, flat_colour

Rng = np.random.Generator
Floats = NDArray[np.float32]

MAX_DEPTH = 4
STRIDE = 2  # every second frame of a motion of 30 frames a second


@dataclass
class Actor:
    """What an actor's file says, once its variants are drawn.

    Attributes:
        mesh, texture: names of files, empty if there is none.
        material: name of the material.
        motions: files of motions by their names, such as "Walk".
        props: actors that are fastened to this one, by the point where.
    """

    mesh: str = ""
    texture: str = ""
    material: str = ""
    motions: dict[str, list[str]] = field(default_factory=dict)
    props: dict[str, str] = field(default_factory=dict)


def read_actor(store: Store, name: str, rng: Rng) -> Actor:
    """Read the actor `name` (a path below `art/actors`) and draw one variant of each group.

    Raises:
        ValueError: there is no such file, or it is damaged.
    """
    root = _xml(store, f"art/actors/{name}")
    if root.tag != "actor":
        root = next(root.iter("actor"), root)
    actor = Actor(material=root.findtext("material", ""))
    for group in root.iter("group"):
        variants = list(group.iter("variant"))
        chances = np.array(
            [float(variant.get("frequency", 0 if "file" in variant.attrib else 1)) for variant in variants]
        )
        if not chances.sum():
            chances[:1] = 1
        drawn = int(rng.choice(len(variants), p=chances / chances.sum())) if variants else -1
        for index, variant in enumerate(variants):
            _apply(store, variant, actor, whole=index == drawn)
    return actor


def _apply(store: Store, variant: ElementTree.Element, actor: Actor, whole: bool) -> None:
    """Add what a variant says to an actor; of a variant that was not drawn, only its motions."""
    if "file" in variant.attrib:
        with suppress(ValueError):
            _apply(store, _xml(store, f"art/variants/{variant.attrib['file']}"), actor, whole)
    for motion in variant.iter("animation"):
        actor.motions.setdefault(motion.get("name", "").lower(), []).append(motion.get("file", ""))
    if not whole:
        return
    actor.mesh = variant.findtext("mesh", actor.mesh)
    for texture in variant.iter("texture"):
        if texture.get("name") == "baseTex":
            actor.texture = texture.get("file", "")
    for prop in variant.iter("prop"):
        actor.props[prop.get("attachpoint", "")] = prop.get("actor", "")


def actor_parts(store: Store, actor: Actor, motion: str, rng: Rng, depth: int = 0) -> list[Part]:
    """Return the meshes of an actor and of what is fastened to it, in one of its motions or at rest.

    Raises:
        ValueError: its mesh is missing or damaged.
    """
    if not actor.mesh:
        return []
    skin = read_pmd(store.read(_cached(store, f"art/meshes/{actor.mesh}", ".pmd")))
    states = _motion(store, actor, motion, len(skin.rest), rng)
    positions = skin.positions[None] if states is None else skin.posed(states)
    parts = [Part(positions, skin.triangles, skin.texcoords * np.array([1, -1], np.float32), _texture(store, actor))]
    for point, name in actor.props.items():
        where = skin.fastening(point, states)
        if not name or where is None or depth == MAX_DEPTH:
            continue
        try:
            fastened = actor_parts(store, read_actor(store, name, rng), motion, rng, depth + 1)
        except ValueError:
            continue
        parts += [_placed(part, where) for part in fastened]
    return parts


def _placed(part: Part, where: Floats) -> Part:
    """Return a part moved by `where` `(F, 4, 4)`; the shorter of the two motions is repeated."""
    frames = max(len(where), len(part.positions))
    steps = np.arange(frames)
    matrices, positions = where[steps % len(where)], part.positions[steps % len(part.positions)]
    moved = positions @ matrices[:, :3, :3].transpose(0, 2, 1) + matrices[:, None, :3, 3]
    return Part(moved.astype(np.float32), part.triangles, part.texcoords, part.texture)


def _motion(store: Store, actor: Actor, name: str, bones: int, rng: Rng) -> Floats | None:
    """Return placements of the bones `(F, B, 4, 4)`, or None if the actor has no such motion for them."""
    files = actor.motions.get(name) or actor.motions.get("idle") or []
    if not files or not bones:
        return None
    try:
        file = files[int(rng.integers(len(files)))]
        states = read_psa(store.read(_cached(store, f"art/animation/{file}", ".psa")))
    except ValueError:
        return None
    return states[::STRIDE][:MAX_FRAMES] if states.shape[1] == bones and len(states) else None


def _texture(store: Store, actor: Actor) -> Picture:
    """Return an actor's texture. Its alpha stands for a player's colour, for holes or for nothing, by the material."""
    if not actor.texture:
        return flat_colour(0.6, 0.5, 0.4)
    name = store.find(*(f"art/textures/skins/{actor.texture}{suffix}" for suffix in (".cached.dds", "")))
    if name is None:
        return flat_colour(0.6, 0.5, 0.4)
    try:
        picture = store.picture(name)
    except ValueError:
        return flat_colour(0.6, 0.5, 0.4)
    return picture if "basic_trans" in actor.material else np.ascontiguousarray(picture[..., :3])


def _cached(store: Store, name: str, suffix: str) -> str:
    return store.find(f"{name}.cached{suffix}", name.rsplit(".", 1)[0] + suffix, name) or name


def _xml(store: Store, name: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(store.read(name))
    except ElementTree.ParseError as error:
        raise ValueError(f"{name}: {error}") from error
