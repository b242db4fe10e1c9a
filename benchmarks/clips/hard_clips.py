"""Short clips, each of something that segmentation by memory does badly: thin lines, look-alikes, camouflage, turning.

Frames are 480 × 854, and 24 of them a clip. Everything is cut from scikit-image's photographs. The same call renders
the same clip.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import photographs
from benchmarks.clips.photographs import COLOURED, GREY
from benchmarks.clips.solids import SIDES, Box, Pose, Solid

Floats = NDArray[np.float32]

FRAMES = 24
SIZE = (480, 854)
_SCENES = (*COLOURED, *GREY)


class HardFrame(NamedTuple):
    """A rendered frame: RGB uint8 `(480, 854, 3)`, and its true ids uint8 `(480, 854)`, 0 the background."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def thin_lines() -> Iterator[HardFrame]:
    """Yield a kite on a line two pixels wide, which is part of it."""
    texture = _scene("coffee", 0)
    for time in range(FRAMES):
        angle, canvas = time / FRAMES * 2 * np.pi, _scene("rocket", 2 * time)
        x, y = 430 + 170 * np.sin(angle), 130 + 50 * np.sin(2 * angle)
        kite = np.array([(x, y - 70), (x + 45, y), (x, y + 60), (x - 45, y)])
        mask = np.zeros(SIZE, np.uint8)
        cv2.fillPoly(mask, [kite.round().astype(np.int32)], 1)
        painted = np.where(mask[..., None] > 0, texture, canvas)
        sag = np.linspace(0, 1, 40)
        line = np.stack([x + (300 - x) * sag, y + 60 + (SIZE[0] - y - 60) * sag**1.5], 1).round().astype(np.int32)
        for target, colour in ((painted, (0.9, 0.9, 0.85)), (mask, 1)):
            cv2.polylines(target, [line], False, colour, 2)
        yield _frame(painted, mask)


def look_alikes() -> Iterator[HardFrame]:
    """Yield seven equal balls that cross one another; three of them are to be followed."""
    texture = photographs.sides(SIDES, np.random.default_rng(4))[0]
    radius = 46
    ball = cv2.resize(texture, (2 * radius, 2 * radius), interpolation=cv2.INTER_AREA)
    disc = np.zeros((2 * radius, 2 * radius), np.float32)
    cv2.circle(disc, (radius, radius), radius - 1, 1.0, -1)
    rng = np.random.default_rng(5)
    starts, phases = rng.uniform((170, 120), (690, 360), (7, 2)), rng.uniform(0, 2 * np.pi, (7, 2))
    for time in range(FRAMES):
        canvas, mask = _scene("gravel", time), np.zeros(SIZE, np.uint8)
        for number in range(7):
            x, y = starts[number] + (110, 70) * np.sin(phases[number] + 2 * np.pi * time / FRAMES)
            _paste(canvas, mask, ball, disc, (x, y), number + 1 if number < 3 else 0)
        yield _frame(canvas, mask)


def camouflage() -> Iterator[HardFrame]:
    """Yield a leaf of grass-coloured texture on grass."""
    texture = np.roll(_scene("grass", 0), 170, 1) * np.float32(1.06)
    for time in range(FRAMES):
        canvas, mask = _scene("grass", 3 * time), np.zeros(SIZE, np.uint8)
        x, y = 200 + 20 * time, 240 + 90 * np.sin(time / 5)
        cv2.ellipse(mask, (int(x), int(y)), (95, 52), 3 * time, 0, 360, 1, -1)
        shift = np.array([[1, 0, x - 400], [0, 1, y - 240]], np.float32)
        moved = cv2.warpAffine(texture, shift, SIZE[::-1], borderMode=cv2.BORDER_WRAP)
        yield _frame(np.where(mask[..., None] > 0, moved, canvas), mask)


def turning() -> Iterator[HardFrame]:
    """Yield a box with six different sides, which shows all of them within a second and comes nearer."""
    sides = photographs.sides(SIDES, np.random.default_rng(2))
    for time in range(FRAMES):
        canvas, mask = _scene("astronaut", 2 * time), np.zeros(SIZE, np.uint8)
        axes = np.array([50, 34, 62], np.float32) * np.float32(1 + time / FRAMES)
        pose = Pose(np.array([430, 240], np.float32), np.array([0.3 * time, 0.17 * time, 0.05 * time], np.float32))
        layer = Solid(Box(axes), sides).render(pose)
        outline = layer.silhouette
        height, width = outline.coverage.shape
        within = slice(outline.top, outline.top + height), slice(outline.left, outline.left + width)
        canvas[within] = canvas[within] * (1 - outline.coverage[..., None]) + layer.colour
        mask[within] = outline.coverage > 0.5
        yield _frame(canvas, mask)


CLIPS: dict[str, Callable[[], Iterator[HardFrame]]] = {
    "thin lines": thin_lines,
    "look-alikes": look_alikes,
    "camouflage": camouflage,
    "turning": turning,
}


def _scene(name: str, shift: int) -> Floats:
    """Return a photograph as a background that has moved to the left by some pixels."""
    return np.roll(_fitted(name), -shift, 1).copy()


@cache
def _fitted(name: str) -> Floats:
    picture = photographs.scenes()[_SCENES.index(name)]
    return cv2.resize(picture, (SIZE[1], round(SIZE[1] * picture.shape[0] / picture.shape[1])))[: SIZE[0]]


def _paste(
    canvas: Floats, mask: NDArray[np.uint8], picture: Floats, cover: Floats, centre: tuple[float, float], identity: int
) -> None:
    left, top = round(centre[0]) - cover.shape[1] // 2, round(centre[1]) - cover.shape[0] // 2
    within = slice(top, top + cover.shape[0]), slice(left, left + cover.shape[1])
    canvas[within] = canvas[within] * (1 - cover[..., None]) + picture * cover[..., None]
    mask[within][cover > 0.5] = identity


def _frame(canvas: Floats, mask: NDArray[np.uint8]) -> HardFrame:
    return HardFrame((255 * np.clip(canvas, 0, 1)).astype(np.uint8), mask.copy())
