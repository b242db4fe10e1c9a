"""Thin parts: limbs, poles and lines that grow out of an object."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stm_fast.data.synthetic.assets import Picture

Rng = np.random.Generator

SUBPIXEL_BITS = 4


def add_limbs(sprite: Picture, texture: Picture, rng: Rng) -> Picture:
    """Add one to four thin parts to a sprite: legs, poles or ropes.

    Parts are bent or straight. They start anywhere, side by side or at one point, and have a colour of the sprite, a
    colour of their own or `texture` `(h, w, 3)`. Some are long thin lines, as on kites and fishing rods. The canvas
    grows to hold them.
    """
    lines = rng.random() < 0.4
    reach = float(rng.uniform(0.8, 1.8) if lines else rng.uniform(0.3, 1.1)) * max(sprite.shape[:2])
    pad = round(reach)
    canvas = cv2.copyMakeBorder(sprite, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    solid = np.argwhere(canvas[..., 3] > 127)
    thinnest, thickest = (0.003, 0.012) if lines else (0.008, 0.06)
    width = float(np.exp(rng.uniform(np.log(thinnest), np.log(thickest)))) * max(canvas.shape[:2])
    limbs = np.zeros(canvas.shape[:2], np.uint8)
    start, angle = solid[rng.integers(len(solid))][::-1], float(rng.uniform(0, 2 * np.pi))
    spread = float(rng.choice([0.1, 0.4, 3.0]))
    for _ in range(int(rng.integers(1, 5))):
        if rng.random() < 0.5:
            start = solid[rng.integers(len(solid))][::-1]
        direction = angle + spread * float(rng.normal())
        _stroke(limbs, start, direction, reach * float(rng.uniform(0.5, 1.0)), width, rng)
    return _cropped(_over(canvas, limbs, _paint(canvas, solid, texture, rng), behind=rng.random() < 0.5))


def _stroke(
    canvas: NDArray[np.uint8], start: NDArray[np.intp], direction: float, length: float, width: float, rng: Rng
) -> None:
    """Draw a line from `start` (x, y) that curves slowly or, like a limb, bends once or twice."""
    steps = 12
    bend = rng.normal(0, 0.08) if rng.random() < 0.6 else 0.0
    turns = bend + (rng.random(steps) < 0.12) * rng.normal(0, 0.7, steps)
    headings = direction + np.cumsum(turns)
    heads = np.stack([np.cos(headings), np.sin(headings)], 1) * (length / steps)
    points = start + np.concatenate([np.zeros((1, 2)), np.cumsum(heads, 0)])
    fixed = np.round(points * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.polylines(canvas, [fixed], False, 255, max(1, round(width)), cv2.LINE_AA, SUBPIXEL_BITS)


def _paint(canvas: Picture, solid: NDArray[np.intp], texture: Picture, rng: Rng) -> NDArray[np.float32]:
    """Return the paint of limbs, `(H, W, 3)` or one colour."""
    draw = rng.random()
    if draw < 0.4:
        return np.asarray(cv2.resize(texture, canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    if draw < 0.75:
        return np.asarray(canvas[tuple(solid[rng.integers(len(solid))])][:3], np.float32)
    return rng.uniform(0, 255, 3).astype(np.float32)


def _over(sprite: Picture, cover: NDArray[np.uint8], paint: NDArray[np.float32], behind: bool) -> Picture:
    """Draw `paint` where `cover` is, in front of the sprite or behind it."""
    front, under = cover[..., None].astype(np.float32) / 255, sprite[..., 3:].astype(np.float32) / 255
    weight = front * (1 - under) if behind else front
    alpha = np.maximum(front, under)
    colour = sprite[..., :3] + weight * (paint - sprite[..., :3])
    hidden = under == 0
    colour = np.where(hidden, paint, colour)
    return np.dstack([np.clip(colour, 0, 255), 255 * alpha]).astype(np.uint8)


def _cropped(sprite: Picture) -> Picture:
    solid = sprite[..., 3] > 127
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    return np.ascontiguousarray(sprite[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
