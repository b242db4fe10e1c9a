"""Synthetic clips: sprites and solids that move over a moving photograph, with exact masks."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.appearance import Camera, Light, motion_blur, shading
from stm_fast.data.synthetic.assets import AssetLibrary
from stm_fast.data.synthetic.bodies import Body, Sprite
from stm_fast.data.synthetic.motion import Path, camera_path, compose, object_path
from stm_fast.data.synthetic.objects import photo_crop
from stm_fast.data.synthetic.screens import Posts, Screen, Spray
from stm_fast.data.synthetic.solids.body import Solid
from stm_fast.errors import StmFastError

Rng = np.random.Generator
Floats = NDArray[np.float32]

MIN_VISIBLE = 0.004
CROWD_SPEED = 0.5  # of a clip's other bodies


@dataclass(frozen=True)
class SyntheticClip:
    """Frames `(T, S, S, 3)` and masks `(T, S, S)`, both uint8; ids 1..`objects` are visible in the first frame."""

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    objects: int


@dataclass
class Layer:
    """One moving body.

    Attributes:
        body: what is drawn.
        path: its pose in the scene, without the camera's motion.
        light: its own light.
        target: whether its mask is wanted.
    """

    body: Body
    path: Path
    light: Light
    shade: Floats
    target: bool

    def pose(self, size: int, view: Floats | None) -> Floats:
        """Return maps from the body to the frame `(T, 2, 3)`, seen by the camera `view`; by one at rest if None."""
        matrices = self.path.matrices(size)
        return matrices if view is None else compose(view, matrices)


def synthesise(
    library: AssetLibrary, rng: Rng, frames: int = 5, size: int = 384, solids: float = 0.0, crowds: float = 0.0
) -> SyntheticClip:
    """Make one clip; retry until at least one target is visible in the first frame.

    Args:
        solids: share of the bodies that are solids, 0 to 1; the others are sprites.
        crowds: share of the clips that show a crowd of bodies that look alike.

    Raises:
        StmFastError: solids are wanted, and the library has no models.
    """
    if solids and not library.models:
        raise StmFastError(f"the asset library holds no models, and {solids:g} of the bodies are to be solids")
    while True:
        clip = _attempt(library, rng, frames, size, solids, crowds)
        if clip.objects:
            return clip


def _attempt(library: AssetLibrary, rng: Rng, frames: int, size: int, solids: float, crowds: float) -> SyntheticClip:
    speed = float(np.exp(rng.uniform(np.log(0.02), np.log(1.6))))
    layers = _cast(library, rng, frames, speed, solids, crowds)
    followed = rng.random() < 0.5
    pan = np.exp(rng.uniform(np.log(0.2), np.log(3.0))) if followed else speed * rng.choice([0.0, 0.5, 1.5])
    camera = camera_path(frames, float(pan), rng)
    scene = _Scene(library, rng, frames, size, camera)
    lens = Camera(rng)
    light = Light(frames, float(rng.choice([0.2, 1.0, 2.5])), rng)
    blurred = rng.random() < 0.3
    pictures = np.empty((frames, size, size, 3), np.uint8)
    masks = np.empty((frames, size, size), np.uint8)
    poses = [layer.pose(size, None if followed and layer.target else scene.view) for layer in layers]
    _hide_some_in_the_scene(layers, poses, scene, rng)
    screens = _screens(library, rng, layers, poses, scene)
    for t in range(frames):
        colour, mask = scene.render(t), np.zeros((size, size), np.uint8)
        target = 0
        for layer, pose in zip(layers, poses, strict=True):
            target += layer.target
            shift = pose[min(t + 1, frames - 1), :, 2] - pose[max(t - 1, 0), :, 2]
            cover = _draw(layer, pose[t], t, 0.25 * shift if blurred else None, colour)
            mask[cover > 0.5] = target if layer.target else 0
        for screen in screens:
            mask[screen.draw(t, colour) > 0.5] = 0
        pictures[t] = lens.capture(light.apply(t, colour), rng)
        masks[t] = mask
    return _keep_first_frame_objects(pictures, masks)


def _keep_first_frame_objects(frames: NDArray[np.uint8], masks: NDArray[np.uint8]) -> SyntheticClip:
    """Give ids 1..n to the objects that are clearly visible in the first frame; the others become background."""
    area = np.bincount(masks[0].ravel(), minlength=256) / masks[0].size
    shown = [index for index in range(1, 256) if area[index] > MIN_VISIBLE]
    table = np.zeros(256, np.uint8)
    table[shown] = np.arange(1, len(shown) + 1)
    return SyntheticClip(frames, table[masks], len(shown))


def _cast(library: AssetLibrary, rng: Rng, frames: int, speed: float, solids: float, crowds: float) -> list[Layer]:
    """Return the layers from back to front: targets, distractors that may look like a target, at times an occluder."""

    def body() -> Body:
        if rng.random() < solids:
            return Solid.random(library, frames, rng)
        return Sprite.random(library, frames, speed, rng)

    if crowds and rng.random() < crowds:
        layers = _crowd(body(), rng, frames, speed)
    else:
        layers = _company(body, rng, frames, speed, solids)
    for layer in layers:
        if rng.random() < 0.12:
            _leave(layer.path, rng)
    rng.shuffle(layers)
    if len(layers) > 1 and frames > 2 and rng.random() < 0.3:
        _cross(layers[-1].path, layers[int(rng.integers(len(layers) - 1))].path, rng)
    return layers


def _company(body: Callable[[], Body], rng: Rng, frames: int, speed: float, solids: float) -> list[Layer]:
    """Return up to three targets and three distractors, some of which look like a target."""
    targets = int(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))
    others = int(rng.choice([0, 1, 2, 3], p=[0.35, 0.3, 0.2, 0.15]))
    layers = [_layer(body(), rng, frames, speed, target=True) for _ in range(targets)]
    twins = 0.15 if rng.random() > 0.3 * solids else 0.8
    for _ in range(others):
        twin = rng.random() < twins
        found = layers[0].body.twin(rng.random() < 0.5, rng) if twin else body()
        layer = _layer(found, rng, frames, speed, target=False)
        if twin:
            layer.path.log_scale = layer.path.log_scale - layer.path.log_scale[0] + layers[0].path.log_scale[0]
        layers.append(layer)
    if targets > 1 and rng.random() < 0.2:
        layers[1].body = layers[0].body.twin(False, rng)
    return layers


def _crowd(model: Body, rng: Rng, frames: int, speed: float) -> list[Layer]:
    """Return three to eight small bodies that look alike and start side by side, two to four of them targets.

    They move slowly for their size: where each was tells them apart.
    """
    targets = int(rng.integers(2, 5))
    count = targets + int(rng.integers(1, 5))
    log_scale = rng.uniform(np.log(0.14), np.log(0.4))
    row = rng.uniform(0.3, 0.7)
    places = rng.permutation(np.linspace(0.1, 0.9, count))
    recoloured = rng.random() < 0.3
    layers = []
    for index, place in enumerate(places):
        layer = _layer(model.twin(recoloured, rng), rng, frames, CROWD_SPEED * speed, target=index < targets)
        path = layer.path
        path.x += place + rng.normal(0, 0.03) - path.x[0]
        path.y += row + rng.normal(0, 0.06) - path.y[0]
        path.log_scale += log_scale + rng.normal(0, 0.1) - path.log_scale[0]
        layers.append(layer)
    return layers


def _layer(body: Body, rng: Rng, frames: int, speed: float, target: bool) -> Layer:
    path = body.move(object_path(frames, speed, rng), rng)
    return Layer(body, path, Light(frames, 0.5, rng), shading(64, rng), target)


def _leave(path: Path, rng: Rng) -> None:
    """Move the object out of the frame for a while after the first frame."""
    frames = len(path.x)
    first = int(rng.integers(1, frames))
    last = int(rng.integers(first, frames))
    reach = 0.5 + 0.6 * float(np.exp(path.log_scale.max()))
    path.x[first : last + 1] = 0.5 + rng.choice([-1, 1]) * reach


def _cross(front: Path, back: Path, rng: Rng) -> None:
    """Move `front` over `back` in some frame after the first."""
    meet = int(rng.integers(1, len(front.x)))
    for axis in ("x", "y"):
        values, goal = getattr(front, axis), getattr(back, axis)[meet]
        ramp = np.interp(np.arange(len(values)), [0, meet, len(values) - 1 + (meet == len(values) - 1)], [0, 1, 0.2])
        setattr(front, axis, (values + ramp * (goal - values)).astype(np.float32))


def _hide_some_in_the_scene(layers: list[Layer], poses: list[Floats], scene: "_Scene", rng: Rng) -> None:
    """Give some bodies, or parts of them, the colours of the background where they start."""
    for layer, pose in zip(layers, poses, strict=True):
        if rng.random() < 0.2:
            x, y = np.clip(pose[0, :, 2], 0, scene.size - 1).astype(int)
            reach = scene.size // 6
            patch = scene.render(0)[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
            layer.body = layer.body.hide(patch, rng)


def _screens(
    library: AssetLibrary, rng: Rng, layers: list[Layer], poses: list[Floats], scene: "_Scene"
) -> list[Screen]:
    """Return the screens of a clip, if any: posts that a target passes behind, and spray around targets."""
    screens: list[Screen] = []
    targets = [index for index, layer in enumerate(layers) if layer.target]
    frames, size = len(scene.view), scene.size
    if rng.random() < 0.18:
        chosen, time = poses[int(rng.choice(targets))], int(rng.integers(frames))
        place = chosen[time, :, 2] + rng.normal(0, 0.05 * size, 2)
        screens.append(Posts(scene.view, place.astype(np.float32), time, size, photo_crop(library, rng, 448), rng))
    for index in targets:
        if rng.random() < 0.35:
            chosen = poses[index]
            half = np.linalg.norm(chosen[0, :, 1])
            place = chosen[:, :, 2] + np.array([rng.normal(0, 0.5), rng.uniform(-0.3, 1)]) * half
            place = place + rng.normal(0, 0.05, (frames, 2)) * half
            screens.append(Spray(place.astype(np.float32), float(half * np.exp(rng.uniform(-0.9, 0.8))), size, rng))
    return screens


class _Scene:
    """The background: a photograph seen by a moving camera."""

    def __init__(self, library: AssetLibrary, rng: Rng, frames: int, size: int, camera: Path) -> None:
        photo = library.load(library.photos[int(rng.integers(len(library.photos)))])[..., :3]
        self.size = size
        self.view = _about_centre(camera, size)
        zoom = size / min(photo.shape[:2]) * float(np.exp(rng.uniform(0.0, 1.1)))
        zoom = min(zoom, 2.2 * max(1.0, size / min(photo.shape[:2])))
        shrink = min(1.0, zoom)
        if shrink < 1:
            photo = cv2.resize(photo, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        self.photo = photo
        height, width = (side * zoom / shrink for side in self.photo.shape[:2])
        slack_x, slack_y = max(width - size, 0), max(height - size, 0)
        corner = (-rng.uniform(0, 1) * slack_x, -rng.uniform(0, 1) * slack_y)
        place = np.array([[zoom / shrink, 0, corner[0]], [0, zoom / shrink, corner[1]]], np.float32)
        if rng.random() < 0.5:
            self.photo = np.ascontiguousarray(self.photo[:, ::-1])
        self.place = compose(self.view, np.repeat(place[None], frames, 0))
        self.shade = cv2.resize(shading(32, rng), (size, size))[..., None]

    def render(self, frame: int) -> Floats:
        """Return the background of one frame `(S, S, 3)` in [0, 1]."""
        picture = cv2.warpAffine(
            self.photo,
            self.place[frame],
            (self.size, self.size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return np.asarray(np.clip(picture.astype(np.float32) * (self.shade / 255), 0, 1), np.float32)


def _about_centre(camera: Path, size: int) -> Floats:
    """Return camera matrices `(T, 2, 3)` that rotate and scale about the frame's centre."""
    matrices = camera.matrices(size)
    matrices[:, :, :2] /= 0.5 * size
    centre = np.full(2, size / 2, np.float32)
    matrices[:, :, 2] += centre - matrices[:, :, :2] @ centre
    return matrices


def _draw(layer: Layer, pose: Floats, frame: int, blur: Floats | None, colour: Floats) -> Floats:
    """Draw a layer over `colour` in place; return its coverage of each pixel `(S, S)`."""
    size = len(colour)
    shadow = layer.body.shadow(frame, pose, size)
    if shadow is not None:
        colour *= 1 - shadow[..., None]
    drawn = layer.body.draw(frame, pose, size)
    alpha = drawn[..., 3:]
    shade = cv2.resize(layer.shade, (size, size))[..., None]
    paint = layer.light.apply(frame, drawn[..., :3] * shade) * alpha
    cover = alpha
    if blur is not None:
        smeared = motion_blur(np.dstack([paint, alpha]), float(blur[0]), float(blur[1]))
        paint, alpha = smeared[..., :3], smeared[..., 3:]
    colour *= 1 - alpha
    colour += paint
    return np.asarray(cover[..., 0], np.float32)
