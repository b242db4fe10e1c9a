"""Freely licensed models in Debian packages, each in its package's own format."""

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.solids.ac3d import read_ac3d
from stm_fast.data.synthetic.solids.actors import actor_parts, read_actor
from stm_fast.data.synthetic.solids.cars import car_parts
from stm_fast.data.synthetic.solids.g3d import read_g3d
from stm_fast.data.synthetic.solids.model import Part, Picture
from stm_fast.data.synthetic.solids.obj import read_obj
from stm_fast.data.synthetic.solids.players import object_parts, player_parts
from stm_fast.data.synthetic.solids.store import Store

Rng = np.random.Generator

MOTIONS_PER_ANIMAL, MOTIONS_PER_UNIT = 6, 1
MOTIONS_PER_SKIN = 2
_TEAM_COLOURS = np.array([[40, 70, 200], [190, 40, 40], [50, 150, 60], [220, 200, 60], [120, 60, 160], [200, 200, 200]])


@dataclass(frozen=True)
class SolidSource:
    """Models in one Debian package.

    Attributes:
        package: the package's name.
        root: the folder or archives that hold the models, a glob relative to the unpacked package.
        read: yields functions that return the parts of a model each, and raise ValueError if it is damaged.
        licence: the licences of the models, as the package's copyright file has them.
    """

    package: str
    root: str
    read: Callable[[Store, Rng], Iterator[Callable[[], list[Part]]]]
    licence: str


def _megaglest(store: Store, rng: Rng) -> Iterator[Callable[[], list[Part]]]:
    unwanted = ("none.g3d", "construction", "destruction", "impaled", "hanged", "skeletons", "particle", "menu")
    for name in store.names(".g3d"):
        if any(part in name for part in unwanted):
            continue
        team = _TEAM_COLOURS[rng.integers(len(_TEAM_COLOURS))]
        yield partial(_g3d, store, name, team)


def _g3d(store: Store, name: str, team: NDArray[np.int64]) -> list[Part]:
    """Return the meshes of a file. Players' units wear the colour of their team where their texture has no alpha."""

    def texture(file: str, coloured: bool) -> Picture:
        picture = store.picture(_beside(name, file))
        if picture.shape[2] == 3 or not coloured or "factions" not in name:
            return picture
        share = picture[..., 3:].astype(np.float32) / 255
        return np.asarray(share * picture[..., :3] + (1 - share) * team, np.uint8)

    return read_g3d(store.read(name), texture)


def _zero_ad(store: Store, rng: Rng) -> Iterator[Callable[[], list[Part]]]:
    for name in store.names(".xml"):
        folder = "art/actors/"
        if not name.startswith((f"{folder}fauna/", f"{folder}units/")):
            continue
        for _ in range(MOTIONS_PER_ANIMAL if name.startswith(f"{folder}fauna/") else MOTIONS_PER_UNIT):
            yield partial(_actor, store, name[len(folder) :], rng)


def _actor(store: Store, name: str, rng: Rng) -> list[Part]:
    """Return an actor in one of its motions; half of those that can walk or run do."""
    actor = read_actor(store, name, rng)
    names = sorted(actor.motions)
    moving = [motion for motion in names if motion in ("walk", "run")]
    chosen = moving if moving and rng.random() < 0.5 else names
    return actor_parts(store, actor, str(rng.choice(chosen)) if chosen else "", rng)


def _openarena(store: Store, rng: Rng) -> Iterator[Callable[[], list[Part]]]:
    for name in store.names("/lower.md3"):
        folder = posixpath.dirname(name)
        for skin in store.names(".skin"):
            stem = f"{folder}/lower_"
            if skin.startswith(stem):
                for _ in range(MOTIONS_PER_SKIN):
                    motion, kind = int(rng.integers(64)), skin[len(stem) : -5]
                    yield partial(player_parts, store, folder, kind, motion)
    for name in store.names(".md3"):
        if not any(part in name for part in ("/players/", "/gibs/", "weaphits", "_1.md3", "_2.md3", "flash", "_ring")):
            yield partial(object_parts, store, name)


def _furniture(store: Store, rng: Rng) -> Iterator[Callable[[], list[Part]]]:
    for name in store.names(".obj"):
        yield partial(_obj, store, name)


def _obj(store: Store, name: str) -> list[Part]:
    return read_obj(
        store.read(name).decode("latin-1"),
        lambda file: store.read(_beside(name, file)).decode("latin-1"),
        lambda file: store.picture(_beside(name, file)),
    )


def _ac3d(*unwanted: str) -> Callable[[Store, Rng], Iterator[Callable[[], list[Part]]]]:
    def read(store: Store, rng: Rng) -> Iterator[Callable[[], list[Part]]]:
        for name in store.names(".acc") + store.names(".ac"):
            if not any(part in name.lower() for part in unwanted):
                yield partial(_ac, store, name)

    return read


def _torcs(store: Store, rng: Rng) -> Iterator[Callable[[], list[Part]]]:
    for name in store.names(".acc"):
        if name.startswith("cars/") and "-lod" not in name:
            yield partial(car_parts, store, name)


def _ac(store: Store, name: str) -> list[Part]:
    text = store.read(name).decode("latin-1")
    return read_ac3d(text, lambda file: store.picture(_beside(name, file)), ("light", "shadow"))


def _beside(name: str, file: str) -> str:
    return posixpath.join(posixpath.dirname(name), file.replace("\\", "/"))


SOLID_SOURCES = (
    SolidSource("0ad-data", "usr/share/games/0ad/mods/public/public.zip", _zero_ad, "CC-BY-SA-3.0"),
    SolidSource("megaglest-data", "usr/share/games/megaglest", _megaglest, "CC-BY-SA-3.0"),
    SolidSource(
        "sweethome3d-furniture",
        "usr/share/sweethome3d/furniture/*.sh3f",
        _furniture,
        "CC-BY-3.0, CC-BY-3.0-US, CC0-1.0",
    ),
    SolidSource("openarena-081-players", "usr/share/games/openarena/baseoa/*.pk3", _openarena, "GPL-2+, GPL-2"),
    SolidSource("openarena-data", "usr/share/games/openarena/baseoa/*.pk3", _openarena, "GPL-2+"),
    SolidSource("torcs-data", "usr/share/games/torcs", _torcs, "GPL-2+, Free-Art-License"),
    SolidSource(
        "flightgear-data-ai",
        "usr/share/games/flightgear/AI/Aircraft",
        _ac3d("light", "prop", "rotor", "pilot", "shadow", "flame"),
        "GPL-2+",
    ),
    SolidSource(
        "flightgear-data-models",
        "usr/share/games/flightgear/Models/[AIMRT]*",
        _ac3d("light", "prop", "impostor", "sign", "windsock"),
        "GPL-2+",
    ),
)
