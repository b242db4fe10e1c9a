"""Solids as bodies of a clip: models that turn, move their limbs and come nearer, in their own or other textures."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.assets import AssetLibrary, Picture
from stm_fast.data.synthetic.motion import Path, smooth_walk
from stm_fast.data.synthetic.objects import camouflage, photo_crop, random_sprite, retexture, tint
from stm_fast.data.synthetic.solids.model import Model
from stm_fast.data.synthetic.solids.relief import relief
from stm_fast.data.synthetic.solids.render import Lamp, View, cast_shadow, render

Rng = np.random.Generator
Floats = NDArray[np.float32]

RELIEFS = 0.25  # share of solids that are cut-outs with a relief
MAX_SWING = 0.7  # angle in radians to which reliefs turn
NEAREST, FARTHEST = 1.7, 30.0  # distances of the viewer, in the model's radius
SMALLEST, LARGEST = 0.1, 1.6  # sizes in the frame, as a fraction of its side
ENLARGEMENT = 1.3  # a model fills less of its sphere than a cut-out of its picture
MAX_APPROACH = 4.0


@dataclass(frozen=True)
class Turn:
    """How a model turns and moves its limbs over a clip.

    Attributes:
        rotations: maps `(T, 3, 3)` from the model's axes to the viewer's.
        times: times in its animation, in frames `(T,)`.
        focal: distance of the viewer from a model as high as the frame, in the model's radius. Smaller models are
            farther away.
        lamp: the light on it.
        darkness: of its shadow on the ground, in [0, 1].
    """

    rotations: Floats
    times: Floats
    focal: float
    lamp: Lamp
    darkness: float

    @classmethod
    def random(cls, frames: int, rng: Rng) -> "Turn":
        """Return a random motion, from nearly still to a quarter turn a frame.

        Most models stand upright and turn about their vertical axis; a few tumble.
        """
        step = float(np.exp(rng.uniform(np.log(0.01), np.log(0.5))))
        tumbles = rng.random() < 0.15
        yaw = smooth_walk(frames, rng.uniform(-np.pi, np.pi), step, rng, 0.9)
        pitch = smooth_walk(frames, rng.normal(0.12, 0.2), step * (0.7 if tumbles else 0.15), rng, 0.9)
        start = _any_rotation(rng) if tumbles else np.eye(3)
        rotations = np.stack([_about_x(p) @ _about_y(y) @ start for p, y in zip(pitch, yaw, strict=True)])
        rate = 0.0 if rng.random() < 0.15 else float(np.exp(rng.uniform(np.log(0.15), np.log(2.5))))
        times = rng.uniform(0, 64) + rate * np.arange(frames)
        focal = float(np.exp(rng.uniform(np.log(1.2), np.log(5))))
        darkness = 0.0 if tumbles or rng.random() < 0.4 else float(rng.uniform(0.2, 0.75))
        return cls(rotations.astype(np.float32), times.astype(np.float32), focal, random_lamp(rng), darkness)

    @classmethod
    def swing(cls, frames: int, rng: Rng) -> "Turn":
        """Return a motion that shows the front from other sides, turned by up to `MAX_SWING` about both axes."""
        turn = cls.random(frames, rng)
        step = float(np.exp(rng.uniform(np.log(0.02), np.log(0.4))))
        yaw, pitch = (
            MAX_SWING * np.sin(smooth_walk(frames, rng.normal(0, 0.6), share * step / MAX_SWING, rng, 0.9))
            for share in (1.0, 0.4)
        )
        rotations = np.stack([_about_x(p) @ _about_y(y) for p, y in zip(pitch, yaw, strict=True)])
        return replace(turn, rotations=rotations.astype(np.float32), darkness=0.0)


@dataclass(frozen=True)
class Solid:
    """A model with textures and a motion.

    Attributes:
        model: its shape.
        textures: pictures in place of the model's own.
        turn: its motion.
        is_relief: whether it only looks right from the front.
    """

    model: Model
    textures: tuple[Picture, ...]
    turn: Turn
    is_relief: bool = False

    @classmethod
    def random(cls, library: AssetLibrary, frames: int, rng: Rng) -> "Solid":
        """Return a random model of the library, or a relief, with random textures and a random motion."""
        if rng.random() < RELIEFS:
            picture = random_sprite(library, rng)
            shape = relief(picture, float(rng.uniform(0.3, 1.1)), float(rng.uniform(0.1, 0.6)))
            if shape is not None:
                return cls(shape, shape.textures, Turn.swing(frames, rng), is_relief=True)
        model = Model.load(library.models[int(rng.integers(len(library.models)))])
        return cls(model, dress(model.textures, library, rng), Turn.random(frames, rng))

    def move(self, path: Path, rng: Rng) -> Path:
        """Return the path with little shear; in a third of cases it comes nearer or recedes, by up to four times."""
        log_scale = path.log_scale + np.float32(np.log(ENLARGEMENT))
        if rng.random() < 0.35:
            ratio = rng.choice([-1, 1]) * np.log(rng.uniform(1.5, MAX_APPROACH))
            log_scale = log_scale + np.linspace(-ratio / 2, ratio / 2, len(log_scale))
        log_scale = np.clip(log_scale, np.log(SMALLEST), np.log(LARGEST)).astype(np.float32)
        return replace(path, log_scale=log_scale, shear=0.2 * path.shear, stretch=0.3 * path.stretch)

    def hide(self, background: Floats, rng: Rng) -> "Solid":
        """Return a solid whose textures have the colours of a background, wholly or on one side."""
        seed = int(rng.integers(2**32))
        hidden = (camouflage(_rgba(texture), background, np.random.default_rng(seed)) for texture in self.textures)
        textures = tuple(_with_alpha(*pair) for pair in zip(hidden, self.textures, strict=True))
        return replace(self, textures=textures)

    def twin(self, recoloured: bool, rng: Rng) -> "Solid":
        """Return the same model under the same light, which turns in its own way or, out of step, as this one does."""
        turn = (Turn.swing if self.is_relief else Turn.random)(len(self.turn.times), rng)
        turn = replace(turn, lamp=self.turn.lamp, darkness=self.turn.darkness)
        if rng.random() < 0.4:
            turn = replace(turn, rotations=self.turn.rotations @ _about_y(rng.normal(0, 0.1)).astype(np.float32))
        return replace(self, textures=_tinted(self.textures, rng) if recoloured else self.textures, turn=turn)

    def draw(self, frame: int, pose: Floats, size: int) -> Floats:
        """Return the model as it is seen."""
        view, time = self._view(frame, pose, size), float(self.turn.times[frame])
        return render(self.model, self.textures, time, view, self.turn.lamp, size)

    def shadow(self, frame: int, pose: Floats, size: int) -> Floats | None:
        """Return the darkness of its shadow on the ground it stands on, if it stands."""
        if not self.turn.darkness:
            return None
        view, time = self._view(frame, pose, size), float(self.turn.times[frame])
        dark = cast_shadow(self.model, time, view, self.turn.lamp, size)
        return None if dark is None else self.turn.darkness * dark

    def _view(self, frame: int, pose: Floats, size: int) -> View:
        height = 2 * float(np.sqrt(abs(np.linalg.det(pose[:, :2])))) / size
        distance = float(np.clip(self.turn.focal / max(height, 1e-3), NEAREST, FARTHEST))
        return View(self.turn.rotations[frame], distance, pose)


def random_lamp(rng: Rng) -> Lamp:
    """Return light from above or the side, soft or hard; on one model in three it is reflected."""
    direction = np.array([rng.normal(), abs(rng.normal()) + 0.2, 0.7 * rng.normal() + 0.5], np.float32)
    ambient = rng.uniform(0.35, 0.75)
    specular = rng.uniform(0.05, 0.5) if rng.random() < 0.35 else 0.0
    return Lamp(
        direction / np.float32(np.linalg.norm(direction)),
        float(ambient),
        float((1.25 - ambient) * rng.uniform(0.6, 1.1)),
        float(specular),
        float(np.exp(rng.uniform(np.log(4), np.log(40)))),
    )


def dress(textures: tuple[Picture, ...], library: AssetLibrary, rng: Rng) -> tuple[Picture, ...]:
    """Return textures for a model: its own, its own in other colours, photographs shaded by them, or plain colours."""
    draw = rng.random()
    if draw < 0.35:
        return textures
    if draw < 0.6:
        return _tinted(textures, rng)
    photos = [photo_crop(library, rng, int(rng.integers(128, 449))) for _ in range(2)]
    dressed = []
    for texture in textures:
        if rng.random() < 0.25:
            dressed.append(texture)
        elif draw < 0.85:
            large = _grown(texture)
            dressed.append(_with_alpha(retexture(_rgba(large), photos[int(rng.integers(2))]), large))
        else:
            plain = np.broadcast_to(rng.integers(0, 256, 3, np.uint8), (*texture.shape[:2], 3))
            dressed.append(_with_alpha(retexture(_rgba(texture), np.ascontiguousarray(plain)), texture))
    return tuple(dressed)


def _tinted(textures: tuple[Picture, ...], rng: Rng) -> tuple[Picture, ...]:
    """Change the colours of all textures in the same way."""
    seed = int(rng.integers(2**32))
    return tuple(_with_alpha(tint(_rgba(texture), np.random.default_rng(seed)), texture) for texture in textures)


def _rgba(texture: Picture) -> Picture:
    if texture.shape[2] == 4 and (texture[..., 3] > 127).any():
        return texture
    return np.dstack([texture[..., :3], np.full(texture.shape[:2], 255, np.uint8)])


def _with_alpha(painted: Picture, texture: Picture) -> Picture:
    """Return painted colours with the holes that the texture has."""
    if texture.shape[2] == 4:
        return np.dstack([painted[..., :3], texture[..., 3]])
    return np.ascontiguousarray(painted[..., :3])


def _grown(texture: Picture) -> Picture:
    """Return a texture large enough for a photograph; those of one colour are tiny."""
    side = min(texture.shape[:2])
    return texture if side >= 64 else np.asarray(np.repeat(np.repeat(texture, -(-64 // side), 0), -(-64 // side), 1))


def _about_x(angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


def _about_y(angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def _any_rotation(rng: Rng) -> NDArray[np.float64]:
    """Return a rotation drawn evenly from all: the orthogonal part of a random matrix."""
    rotation, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.diag(upper))
    return np.asarray(rotation * np.sign(np.linalg.det(rotation)))
