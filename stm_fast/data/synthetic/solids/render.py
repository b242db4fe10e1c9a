"""Pictures of models: perspective, textures, light, smooth edges and exact coverage."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.solids.model import Model, Picture
from stm_fast.data.synthetic.solids.raster import (
    MIN_DOUBLED_AREA,
    Planes,
    Samples,
    Window,
    doubled_areas,
    visible_samples,
)

Floats = NDArray[np.float32]

SUPERSAMPLING = 2
CREASE = 0.8  # cosine of the angle between a triangle and the mean of its neighbours from which an edge looks sharp
MIN_LAMP_HEIGHT = 0.4  # sine of the lamp's height above the ground below which there is no shadow
SHADOW_SCALE = 0.5  # of the picture's size: shadows are drawn coarsely
_ROW = 4096


@dataclass(frozen=True)
class Lamp:
    """Light on a model.

    Attributes:
        direction: unit vector to the lamp `(3,)`: right, up, towards the viewer.
        ambient, diffuse, specular: brightness of light from everywhere, of light from the lamp, and of its reflection.
        shininess: exponent of the reflection; larger is sharper.
    """

    direction: Floats
    ambient: float
    diffuse: float
    specular: float = 0.0
    shininess: float = 16.0

    def on(self, normals: Floats) -> tuple[Floats, Floats]:
        """Return the brightness of surfaces `(...)` with these normals `(..., 3)`, and the white light they reflect."""
        halfway = self.direction + np.array([0, 0, 1], np.float32)
        halfway /= max(float(np.linalg.norm(halfway)), 1e-6)
        diffuse = self.ambient + self.diffuse * np.maximum(normals @ self.direction, 0)
        return diffuse, self.specular * np.maximum(normals @ halfway, 0) ** self.shininess


@dataclass(frozen=True)
class View:
    """How a model is seen.

    Attributes:
        rotation: map `(3, 3)` from the model's axes to the viewer's: right, up, towards the viewer.
        distance: distance of the viewer from the model's centre, in the model's radius; larger than 1.
        place: map `(2, 3)` from the picture plane through the model's centre, where the model is about [-1, 1] wide and
            y is down, to pixels.
    """

    rotation: Floats
    distance: float
    place: Floats


class _Corners(NamedTuple):
    """Values at the corners of all triangles: `(N, 3, 2)` places, `(N, 3)` nearness, `(N, 3, 2)` texture, light."""

    places: Floats
    nearness: Floats
    texcoords: Floats
    light: Floats


def render(model: Model, textures: tuple[Picture, ...], time: float, view: View, lamp: Lamp, size: int) -> Floats:
    """Draw a model; return red, green, blue and coverage `(size, size, 4)` in [0, 1].

    Args:
        textures: pictures in place of the model's own, one each.
        time: time in the model's animation, in frames.
    """
    picture = np.zeros((size, size, 4), np.float32)
    corners = _project(model, time, view, lamp)
    window = _window(corners.places, size * SUPERSAMPLING)
    if window.width <= 0 or window.height <= 0:
        return picture
    real = np.flatnonzero(np.abs(doubled_areas(corners.places)) > MIN_DOUBLED_AREA)
    corners = _Corners(*(values[real] for values in corners))
    painter = _Painter(corners, model.material[real], textures)
    samples = visible_samples(
        corners.places, corners.nearness, window, painter.holes if painter.pierced.any() else None
    )
    flat = np.zeros((window.height * window.width, 4), np.float32)
    flat[samples.pixel] = painter.colours(samples)
    seen = flat.reshape(window.height, window.width, 4)
    step = SUPERSAMPLING
    mean = np.asarray(cv2.resize(seen, (window.width // step, window.height // step), interpolation=cv2.INTER_AREA))
    coverage = mean[..., 3:]
    mean[..., :3] /= np.maximum(coverage, np.float32(1e-6))
    picture[window.top // step : window.bottom // step, window.left // step : window.right // step] = mean
    return picture


def cast_shadow(model: Model, time: float, view: View, lamp: Lamp, size: int) -> Floats | None:
    """Return how much of each pixel lies in the model's shadow on the ground it stands on, `(size, size)` in [0, 1].

    The ground is the plane through the model's lowest point in any frame. There is no shadow, but None, if the lamp
    stands low.
    """
    to_lamp = view.rotation.T @ lamp.direction
    if to_lamp[1] < MIN_LAMP_HEIGHT:
        return None
    points = model.at(time)
    height = points[:, 1:2] - model.frames[..., 1].min()
    places, nearness = _in_picture((points - height * to_lamp / to_lamp[1]) @ view.rotation.T, view)
    corners = (places[model.triangles] * np.float32(SHADOW_SCALE)).astype(np.float32)
    near = nearness[model.triangles]
    real = np.flatnonzero((np.abs(doubled_areas(corners)) > MIN_DOUBLED_AREA) & (near > 0).all(1) & (near < 6).all(1))
    side = round(size * SHADOW_SCALE)
    window = Window(0, 0, side, side)
    dark = np.zeros((side, side), np.float32)
    dark.ravel()[visible_samples(corners[real], near[real], window).pixel] = 1
    softness = 0.01 * side
    return np.asarray(cv2.resize(cv2.GaussianBlur(dark, (0, 0), softness), (size, size)), np.float32)


def _in_picture(points: Floats, view: View) -> tuple[Floats, Floats]:
    """Return where points in the viewer's axes `(V, 3)` are seen, in pixels `(V, 2)`, and their nearness `(V,)`."""
    nearness = view.distance / (view.distance - points[:, 2])
    flat = points[:, :2] * nearness[:, None] * np.array([1, -1], np.float32)
    places = flat @ view.place[:, :2].T + view.place[:, 2]
    return places.astype(np.float32), nearness.astype(np.float32)


def _project(model: Model, time: float, view: View, lamp: Lamp) -> _Corners:
    points = model.at(time) @ view.rotation.T
    places, nearness = _in_picture(points, view)
    places *= SUPERSAMPLING
    triangles = model.triangles
    eye = np.array([0, 0, view.distance], np.float32)
    diffuse, specular = lamp.on(_normals(points, triangles, model.twins, eye))
    light = np.stack([diffuse, specular], -1).astype(np.float32)
    return _Corners(places[triangles], nearness[triangles], model.texcoords[triangles], light)


def _normals(points: Floats, triangles: NDArray[np.int64], twins: NDArray[np.int64], eye: Floats) -> Floats:
    """Return unit normals at the corners of triangles `(N, 3, 3)`, which face the viewer; sharp edges stay sharp.

    A corner's normal is the mean of those of all triangles there, weighted by their angles.
    """
    corners = points[triangles]
    edges = _unit(corners[:, [1, 2, 0]] - corners)
    flat = _unit(np.asarray(np.cross(edges[:, 0], edges[:, 1]), np.float32))
    angles = np.arccos(np.clip(-(edges * edges[:, [2, 0, 1]]).sum(-1), -1, 1))
    around = twins[triangles].reshape(-1)
    weighted = (angles[..., None] * flat[:, None]).reshape(-1, 3)
    total = np.stack([np.bincount(around, weighted[:, axis]) for axis in range(3)], -1)
    smooth = _unit(total.astype(np.float32))[around].reshape(-1, 3, 3)
    sharp = (smooth * flat[:, None]).sum(-1, keepdims=True) < CREASE
    normals = np.where(sharp, flat[:, None], smooth)
    away = (flat * (eye - corners[:, 0])).sum(-1) < 0
    return np.asarray(np.where(away[:, None, None], -normals, normals), np.float32)


def _unit(vectors: Floats) -> Floats:
    """Return vectors of length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12), np.float32)


def _window(places: Floats, size: int) -> Window:
    """Return the pixels of a square picture that triangles may cover, in whole blocks of samples."""
    low = np.clip(np.floor(places.min((0, 1)) / SUPERSAMPLING), 0, size // SUPERSAMPLING).astype(int) * SUPERSAMPLING
    high = np.clip(np.ceil(places.max((0, 1)) / SUPERSAMPLING), 0, size // SUPERSAMPLING).astype(int) * SUPERSAMPLING
    return Window(int(low[1]), int(low[0]), int(high[1]), int(high[0]))


class _Painter:
    """Tells the colours of samples and where textures have holes."""

    def __init__(self, corners: _Corners, material: NDArray[np.int64], textures: tuple[Picture, ...]) -> None:
        self.material = material
        places, nearness = corners.places, corners.nearness
        self.nearness = Planes.through(places, nearness)
        self.column, self.row = (Planes.through(places, corners.texcoords[..., k] * nearness) for k in range(2))
        self.diffuse, self.specular = (Planes.through(places, corners.light[..., k]) for k in range(2))
        ratios = _texels(corners, material, textures)
        self.textures = [_at_scale(picture, ratio) for picture, ratio in zip(textures, ratios, strict=True)]
        self.pierced = np.zeros(len(material), bool)
        for index, picture in enumerate(self.textures):
            if picture.shape[2] == 4:
                own = np.flatnonzero(material == index)
                self.pierced[own] = _pierced(picture[..., 3], corners.texcoords[own])

    def _texcoords(self, samples: Samples) -> Floats:
        """Return places in the texture `(n, 2)` in [0, 1)."""
        depth = 1 / np.maximum(self.nearness.at(samples), np.float32(1e-6))
        places = np.empty((len(depth), 2), np.float32)
        for axis, plane in enumerate((self.column, self.row)):
            values = plane.at(samples)
            values *= depth
            places[:, axis] = values - np.floor(values)
        return places

    def holes(self, samples: Samples) -> NDArray[np.int64]:
        """Return the indices of samples that lie in holes."""
        chosen = np.flatnonzero(self.pierced.take(samples.triangle))
        some = samples.part(chosen)
        places, material = self._texcoords(some), self.material.take(some.triangle)
        keep = np.ones(len(chosen), bool)
        for index in np.flatnonzero(np.bincount(material)):
            own = np.flatnonzero(material == index)
            alpha = self.textures[index][..., 3]
            column, row = (places[own] * alpha.shape[::-1]).astype(np.int64).T
            at = np.minimum(row, alpha.shape[0] - 1) * alpha.shape[1] + np.minimum(column, alpha.shape[1] - 1)
            keep[own] = alpha.take(at) > 127
        return np.asarray(chosen[~keep])

    def colours(self, samples: Samples) -> Floats:
        """Return red, green, blue and 1 of samples `(n, 4)`."""
        places = self._texcoords(samples)
        material = self.material.take(samples.triangle)
        paint = np.ones((len(material), 4), np.float32)
        used = np.flatnonzero(np.bincount(material))
        for index in used:
            chosen = np.flatnonzero(material == index) if len(used) > 1 else slice(None)
            paint[chosen, :3] = _looked_up(self.textures[index], places[chosen])
        diffuse, specular = np.clip(self.diffuse.at(samples), 0, 2), np.clip(self.specular.at(samples), 0, 1)
        paint[:, :3] *= diffuse[:, None]
        paint[:, :3] += specular[:, None]
        np.minimum(paint, 1, out=paint)
        return paint


def _pierced(alpha: Picture, texcoords: Floats) -> NDArray[np.bool_]:
    """Return which triangles, with these places in the texture `(n, 3, 2)`, may have holes."""
    holes = cv2.integral((alpha <= 127).astype(np.uint8))
    size = np.array(alpha.shape[::-1])
    low = np.floor(texcoords.min(1) * size).astype(np.int64) - 1
    high = np.ceil(texcoords.max(1) * size).astype(np.int64) + 1
    repeats = ((texcoords.min(1) < 0) | (texcoords.max(1) > 1)).any(1)
    (left, top), (right, bottom) = np.clip(low, 0, size).T, np.clip(high, 0, size).T
    count = holes[bottom, right] - holes[top, right] - holes[bottom, left] + holes[top, left]
    return np.asarray(repeats & bool(holes[-1, -1]) | (count > 0))


def _texels(corners: _Corners, material: NDArray[np.int64], textures: tuple[Picture, ...]) -> Floats:
    """Return how many texels fall into one sample, for each texture."""
    used, covered = (
        np.bincount(material, np.abs(doubled_areas(values)), len(textures))
        for values in (corners.texcoords, corners.places)
    )
    pixels = np.array([picture.shape[0] * picture.shape[1] for picture in textures])
    return np.asarray(pixels * used / np.maximum(covered, 1), np.float32)


def _at_scale(texture: Picture, texels: float) -> Picture:
    """Shrink a texture of which many texels fall into one sample."""
    factor = min(1.0, float(texels) ** -0.5 if texels > 0 else 1.0)
    if factor > 0.7:
        return texture
    size = tuple(max(1, round(side * factor)) for side in texture.shape[1::-1])
    return np.asarray(cv2.resize(texture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _looked_up(texture: Picture, places: Floats) -> Floats:
    """Return the texture's colours `(n, 3)` in [0, 1] at places `(n, 2)` in [0, 1)."""
    count = len(places)
    rows = -(-count // _ROW)
    grid = np.zeros((rows * _ROW, 2), np.float32)
    grid[:count] = places * np.array(texture.shape[1::-1], np.float32) - np.float32(0.5)
    where, opaque = grid.reshape(rows, _ROW, 2), np.ascontiguousarray(texture[..., :3])
    colours = cv2.remap(opaque, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(colours.reshape(-1, 3)[:count].astype(np.float32) / 255)
