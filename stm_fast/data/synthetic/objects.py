"""Sprites: the objects of a synthetic clip. Each is an RGBA picture whose alpha is the object's shape."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.assets import AssetLibrary, Picture
from stm_fast.data.synthetic.parts import add_limbs
from stm_fast.media.extent import extent

Rng = np.random.Generator


def random_sprite(library: AssetLibrary, rng: Rng) -> Picture:
    """Return a sprite `(h, w, 4)` uint8.

    It is a cut-out, clip art, a silhouette filled with a photograph, a segment of a photograph, or two cut-outs joined.
    Sometimes it has limbs that look different from the rest.
    """
    draw = rng.random()
    if draw < 0.55:
        sprite = _cutout(library, rng)
    elif draw < 0.60 and library.clipart:
        sprite = library.load(_choice(library.clipart, rng))
    elif draw < 0.68:
        sprite = retexture(_cutout(library, rng), photo_crop(library, rng, 448))
    elif draw < 0.84:
        sprite = photo_segment(photo_crop(library, rng, int(rng.integers(160, 448))), rng)
    else:
        sprite = join(_cutout(library, rng), _cutout(library, rng), rng)
    sprite = tint(sprite, rng) if rng.random() < 0.5 else sprite
    if rng.random() < 0.4:
        sprite = add_limbs(sprite, photo_crop(library, rng, 256), rng)
    return np.ascontiguousarray(sprite[:, ::-1]) if rng.random() < 0.5 else sprite


def retexture(sprite: Picture, texture: Picture) -> Picture:
    """Fill the sprite's shape with a photograph; keep some of the sprite's own shading."""
    height, width = sprite.shape[:2]
    texture = cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA)
    shade = cv2.cvtColor(sprite[..., :3], cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None] / 255
    colour = texture * (0.55 + 0.45 * shade)
    return np.dstack([colour.astype(np.uint8), sprite[..., 3]])


def photo_segment(crop: Picture, rng: Rng) -> Picture:
    """Cut a Felzenszwalb region of useful size out of a photograph, or a random smooth shape if there is none."""
    mask = _region(crop, rng) if rng.random() < 0.5 else None
    if mask is None:
        mask = smooth_shape(crop.shape[:2], rng)
    box = extent(mask)
    alpha = cv2.GaussianBlur(mask.astype(np.uint8) * 255, (0, 0), 0.8)
    return np.ascontiguousarray(np.dstack([crop[box], alpha[box]]))


def _region(crop: Picture, rng: Rng) -> NDArray[np.bool_] | None:
    from skimage.segmentation import felzenszwalb

    height, width = crop.shape[:2]
    small = cv2.resize(crop, (max(width // 3, 48), max(height // 3, 48)), interpolation=cv2.INTER_AREA)
    labels = felzenszwalb(small, scale=float(rng.choice([150, 400, 900])), sigma=0.8, min_size=60)
    areas = np.bincount(labels.ravel()) / labels.size
    useful = np.flatnonzero((areas > 0.08) & (areas < 0.6))
    if not len(useful):
        return None
    region = (labels == rng.choice(useful)).astype(np.float32)
    region = cv2.GaussianBlur(cv2.resize(region, (width, height)), (0, 0), 3) > 0.5
    return _largest_part(region) if region.mean() > 0.05 else None


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def smooth_shape(size: tuple[int, int], rng: Rng) -> NDArray[np.bool_]:
    """Return a random star-shaped blob, round to spiky and squat to long. Its outline is a short Fourier series."""
    height, width = size
    angles = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    radius = np.ones_like(angles)
    roughness = rng.uniform(0.1, 0.9)
    for order in range(1, 9):
        radius += roughness * rng.normal() / order**1.2 * np.cos(order * angles + rng.uniform(0, 2 * np.pi)) * 0.5
    radius = np.clip(radius, 0.15, None)
    stretch = np.exp(rng.normal(0, 0.35))
    outline = np.stack([radius * np.cos(angles) * stretch, radius * np.sin(angles) / stretch], 1)
    outline = (outline - outline.min(0)) / np.ptp(outline, axis=0).max()
    points = (outline * (min(height, width) - 5) + 2).astype(np.int32)
    return np.asarray(cv2.fillPoly(np.zeros(size, np.uint8), [points], 1)).astype(bool)


def join(first: Picture, second: Picture, rng: Rng) -> Picture:
    """Join two cut-outs into one object, such as a rider on a horse."""
    scale = rng.uniform(0.4, 0.9) * max(first.shape[:2]) / max(second.shape[:2])
    size = tuple(max(8, round(side * scale)) for side in second.shape[1::-1])
    second = cv2.resize(second, size, interpolation=cv2.INTER_AREA)
    (h1, w1), (h2, w2) = first.shape[:2], second.shape[:2]
    canvas = np.zeros((h1 + h2, w1 + w2, 4), np.uint8)
    canvas[h2 // 2 : h2 // 2 + h1, w2 // 2 : w2 // 2 + w1] = first
    top, left = int(rng.integers(0, h1 + 1)), int(rng.integers(0, w1 + 1))
    under = canvas[top : top + h2, left : left + w2]
    alpha = second[..., 3:].astype(np.float32) / 255
    under[..., :3] = second[..., :3] * alpha + under[..., :3] * (1 - alpha)
    under[..., 3] = np.maximum(under[..., 3], second[..., 3])
    solid = canvas[..., 3] > 127
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    return np.ascontiguousarray(canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def tint(sprite: Picture, rng: Rng) -> Picture:
    """Recolour a sprite: shift the hue, scale saturation and brightness."""
    hsv = cv2.cvtColor(sprite[..., :3], cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.normal(0, 25)) % 180
    hsv[..., 1] *= rng.uniform(0.3, 1.3)
    hsv[..., 2] *= rng.uniform(0.55, 1.2)
    colour = cv2.cvtColor(np.clip(hsv, 0, [179, 255, 255]).astype(np.uint8), cv2.COLOR_HSV2RGB)
    return np.dstack([colour, sprite[..., 3]])


def camouflage(sprite: Picture, background: NDArray[np.float32], rng: Rng) -> Picture:
    """Give a sprite, or the part on one side of a line, the mean colour and contrast of a background.

    Args:
        background: `(h, w, 3)` in [0, 1].
    """
    solid = sprite[..., 3] > 127
    colour = sprite[..., :3].astype(np.float32)
    goal = 255 * background.reshape(-1, 3)
    spread = np.clip(goal.std(0) / (colour[solid].std(0) + 1), 0.3, 1.2)
    hidden = (colour - colour[solid].mean(0)) * spread + goal.mean(0) * np.exp(rng.normal(0, 0.15))
    weight = np.full(solid.shape, rng.uniform(0.5, 1.0), np.float32)
    if rng.random() < 0.5:
        grid = np.indices(solid.shape)
        rows, columns = grid[0], grid[1]
        angle = rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * (columns - columns[solid].mean()) + np.sin(angle) * (rows - rows[solid].mean())
        weight[along < rng.normal(0, 0.2) * np.ptp(along[solid])] = 0
    colour += weight[..., None] * (hidden - colour)
    return np.dstack([np.clip(colour, 0, 255).astype(np.uint8), sprite[..., 3]])


def _cutout(library: AssetLibrary, rng: Rng) -> Picture:
    return library.load(_choice(library.cutouts, rng))


def photo_crop(library: AssetLibrary, rng: Rng, side: int) -> Picture:
    """Return a square of a photograph `(s, s, 3)` uint8, where s is `side` or the shorter side of the photograph."""
    photo = library.load(_choice(library.photos, rng))
    side = min(side, *photo.shape[:2])
    top = int(rng.integers(0, photo.shape[0] - side + 1))
    left = int(rng.integers(0, photo.shape[1] - side + 1))
    return photo[top : top + side, left : left + side, :3]


def _choice(paths: Sequence[Path], rng: Rng) -> Path:
    return paths[int(rng.integers(len(paths)))]
