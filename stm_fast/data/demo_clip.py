"""The demo's clip: a cup of coffee that circles a cat in front of a launch pad.

Objects are cut from photographs that ship with scikit-image, so that the masks are exact. Chelsea the cat (Stéfan van
der Walt) and the coffee cup (Rachel Michetti) are CC0, the Falcon 9 (SpaceX) is in the public domain.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from stm_fast.errors import StmFastError
from stm_fast.media.files import atomic_path
from stm_fast.media.masks import write_mask

FRAMES = 40
FPS = Fraction(12)
SIZE = (270, 480)
CAT, CUP = 1, 2
_SUPERSAMPLING = 2

# Points of outlines, in pixels of the photographs. A closed curve goes through them.
# fmt: off
_CAT_OUTLINE = (
    (46, 4), (60, 1), (84, 5), (105, 13), (150, 15), (200, 15), (250, 15), (300, 13), (320, 8), (338, 3), (362, 1),
    (386, 1), (396, 4), (389, 16), (377, 38), (363, 62), (355, 76), (358, 95), (361, 115), (360, 140), (355, 165),
    (345, 190), (330, 212), (315, 232), (312, 250), (302, 268), (280, 280), (255, 285), (225, 282), (195, 274),
    (168, 268), (140, 262), (112, 246), (85, 222), (62, 190), (48, 155), (38, 120), (34, 85), (37, 50), (41, 22),
)
_CUP_OUTLINE = (
    (78, 211), (80, 185), (92, 154), (111, 124), (138, 95), (160, 80), (183, 71), (196, 51), (215, 34), (243, 24),
    (284, 20), (322, 25), (357, 40), (381, 58), (397, 72), (409, 68), (418, 70), (423, 78), (421, 89), (415, 107),
    (434, 123), (457, 154), (474, 193), (478, 226), (473, 264), (454, 302), (427, 330), (393, 357), (351, 378),
    (298, 388), (252, 385), (210, 372), (168, 353), (126, 321), (96, 280), (83, 245),
)
# fmt: on


class DemoFrame(NamedTuple):
    """A rendered frame: RGB uint8 `(270, 480, 3)`, and its true ids uint8 `(270, 480)`: 1 is the cat, 2 is the cup."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def render() -> Iterator[DemoFrame]:
    """Yield the 40 frames of the clip; they are the same every time.

    Raises:
        StmFastError: scikit-image is not installed.
    """
    pictures = _pictures()
    cat, cup = _cut_out(pictures.chelsea(), _CAT_OUTLINE), _cut_out(pictures.coffee(), _CUP_OUTLINE)
    background = Image.fromarray(pictures.rocket())
    noise = np.random.default_rng(0)
    for time in np.linspace(0, 1, FRAMES):
        canvas = _background(background, time)
        masks = [(identity, _paste(canvas, picture, place)) for identity, picture, place in _placed(cat, cup, time)]
        small = canvas.convert("RGB").resize(SIZE[::-1], Image.Resampling.BOX)
        grain = noise.normal(0, 2, (*SIZE, 3))
        yield DemoFrame(np.clip(np.asarray(small) + grain, 0, 255).astype(np.uint8), _ids(masks))


def write(folder: str | Path) -> None:
    """Render the clip into `folder/frames` and `folder/masks`, the layout of `stm_fast.data.video.folder`."""
    for index, frame in enumerate(render()):
        with atomic_path(Path(folder) / "frames" / f"{index:05d}.png") as partial:
            Image.fromarray(frame.image).save(partial, format="PNG")
        write_mask(Path(folder) / "masks" / f"{index:05d}.png", frame.mask)


class _Place(NamedTuple):
    """Placement of a cut-out: centre and width in pixels of the frame, angle in degrees, brightness."""

    x: float
    y: float
    width: float
    angle: float
    light: float


def _placed(cat: Image.Image, cup: Image.Image, time: float) -> list[tuple[int, Image.Image, _Place]]:
    """Return the placement of both objects at a time in [0, 1], the farther one first."""
    sway = math.sin(2 * math.pi * time)
    cat_place = _Place(215 + 60 * time + 12 * sway, 146 - 8 * sway, 205 - 20 * math.cos(math.pi * time), -7 * sway, 1.0)
    phase = math.radians(-20 + 365 * time)
    depth = math.sin(phase)
    cup_place = _Place(
        x=cat_place.x + 155 * math.cos(phase),
        y=cat_place.y - 25 + 62 * depth,
        width=104 + 26 * depth,
        angle=14 * math.cos(phase + 0.5),
        light=0.95 + 0.12 * depth,
    )
    layers = [(CAT, cat, cat_place), (CUP, cup, cup_place)]
    return layers if depth > 0 else layers[::-1]


def _background(picture: Image.Image, time: float) -> Image.Image:
    """Return the background, which pans and slowly zooms, at the supersampled size."""
    height, width = (side * _SUPERSAMPLING for side in SIZE)
    window_width = 600 - 60 * time
    window_height = window_width * height / width
    left, top = 5 + 80 * time, (picture.height - window_height) * (0.8 - 0.2 * time)
    box = (left, top, left + window_width, top + window_height)
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=box).convert("RGBA")


def _paste(canvas: Image.Image, picture: Image.Image, place: _Place) -> Image.Image:
    """Draw a cut-out on the canvas; return its coverage of the canvas, mode L."""
    width = round(place.width * _SUPERSAMPLING)
    scaled = picture.resize((width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS)
    turned = scaled.rotate(place.angle, Image.Resampling.BICUBIC, expand=True)
    alpha = turned.getchannel("A")
    lit = ImageEnhance.Brightness(turned.convert("RGB")).enhance(place.light)
    corner = (
        round(place.x * _SUPERSAMPLING - turned.width / 2),
        round(place.y * _SUPERSAMPLING - turned.height / 2),
    )
    canvas.paste(lit, corner, alpha)
    coverage = Image.new("L", canvas.size)
    coverage.paste(alpha, corner)
    return coverage


def _ids(masks: list[tuple[int, Image.Image]]) -> NDArray[np.uint8]:
    """Return ids at the clip's size; nearer coverages hide farther ones."""
    ids = np.zeros(SIZE, np.uint8)
    for identity, coverage in masks:
        ids[np.asarray(coverage.resize(SIZE[::-1], Image.Resampling.BOX)) > 127] = identity
    return ids


def _cut_out(picture: NDArray[np.uint8], outline: Sequence[tuple[float, float]]) -> Image.Image:
    """Return the part of a photograph inside an outline, as RGBA cropped to it."""
    scale = 4
    height, width = picture.shape[:2]
    stencil = Image.new("L", (width * scale, height * scale))
    ImageDraw.Draw(stencil).polygon([(x * scale, y * scale) for x, y in _closed_curve(outline)], fill=255)
    cut = Image.fromarray(picture).convert("RGB")
    cut.putalpha(stencil.resize((width, height), Image.Resampling.BOX))
    return cut.crop(cut.getbbox())


def _closed_curve(points: Sequence[tuple[float, float]], steps: int = 8) -> list[tuple[float, float]]:
    """Return a closed Catmull-Rom spline through points."""
    knots = np.array([points[-1], *points, *points[:2]], np.float64)
    curve: list[tuple[float, float]] = []
    for i, (here, there) in enumerate(pairwise(knots[1:-1]), 1):
        before, after = knots[i - 1], knots[i + 2]
        for t in np.linspace(0, 1, steps, endpoint=False):
            x, y = (
                here
                + (there - before) * t / 2
                + (2 * before - 5 * here + 4 * there - after) * t**2 / 2
                + (3 * here - before - 3 * there + after) * t**3 / 2
            )
            curve.append((float(x), float(y)))
    return curve


def _pictures() -> Any:
    try:
        from skimage import data
    except ImportError as error:
        raise StmFastError("the demo's clip needs scikit-image's pictures: pip install 'stm-fast[demo]'") from error
    return data
